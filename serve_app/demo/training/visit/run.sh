#!/bin/bash
# On the GPU machine, beside what prepare.sh brought. What each call leaves in $OUT is whole, also if nothing has ended:
# seven files of at most 16 MiB, the parts of three models and misc.tgz (logs, sheets, the judge, the adapter).
#   run.sh start MINUTES [ARGS...]  starts the trainings and returns: they end MINUTES later, whatever happens
#   run.sh wait [SECONDS]           waits, at most so long (570), then shows and collects; call it again at once
#   run.sh collect                  only shows and collects
#   run.sh stop                     ends them; start goes on where they were
# The last GPU has the text and the judge, the last but one the video, the others the images; one alone has all.
# ONLY="image video" leaves the others out. ONLY="image video" run.sh start 3 --tiny rehearses on a CPU.
set -u
python=${PYTHON:-python3}; case $python in [!/]*/*) python=$PWD/$python ;; esac
here=$(cd "$(dirname "$0")" && pwd); cd "$here"  # python takes the current folder's modules before those of PYTHONPATH
home=${VISIT_HOME:-/tmp/visit}; out=$home/out
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}
export TORCHINDUCTOR_CACHE_DIR=$home/inductor PYTHONPATH=$home/site:$here PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
training=serve_app.demo.training

# supervise NAME MINUTES COMMAND...: again after a crash, for the minutes left; from the third time on without compiling.
# The text training counts itself what it has spent: $whole gives it all its minutes each time.
supervise() {
  local name=$1 ends=$(($(date +%s) + $2 * 60)) left more=() try; shift 2
  for try in 1 2 3 4 5; do
    left=$(awk -v s=$((ends - $(date +%s))) 'BEGIN {printf "%.2f", s / 60}')
    [ "${left%%.*}" -ge 0 ] && [ "$left" != 0.00 ] || break
    [ $try -lt 3 ] || more=(--no-compile)
    "$@" --minutes "${whole:-$left}" ${more[@]+"${more[@]}"} && break
    echo "=== $name ended with $? at try $try"; sleep 2
  done
  echo "=== $name ENDED"
}

images() { # its adapter has the last minute and a half
  supervise image $(($1 - 2)) "$python" -m torch.distributed.run --nproc-per-node "$processes" --master-port 29511 \
    -m $training.image --data "$here/data/image" --out "$out/image" "${@:2}"
  [ -f "$out/image/pipeline/model_index.json" ] && [ "$device" = cuda ] &&
    "$python" -m $training.adapter --pipeline "$out/image/pipeline" --data "$here/data/image" --minutes 1.3 \
      --device cuda --batch 256 --fresh 64 --store 16384 --workers 6 \
      --out "$out/image/pixel-art.safetensors"
  echo "=== all of images ENDED"
}

texts() { # the judge beside it: both are small
  [ "$device" = cpu ] || "$python" -m $training.judge train --data "$here/data/image" \
    --out "$out/judge.safetensors" --minutes 3 >"$home/judge.log" 2>&1 &
  [ ! -d "$here/data/text" ] ||
    whole=$1 supervise text "$1" "$python" -m $training.text.train --out "$out/text" --tokenizer "$here/data/text" "${@:2}"
  wait
}

launch() { # launch NAME GPUS FUNCTION ARGS...
  case " ${ONLY:-image video text} " in *" $1 "*) ;; *) return ;; esac
  (export CUDA_VISIBLE_DEVICES=$2; "${@:3}") >>"$home/$1.log" 2>&1 </dev/null &
}

collect() {
  for name in image video text judge; do
    [ -f "$home/$name.log" ] || continue
    echo "--- $name"; grep -v 'Writing model\|float32: \[\]\|Warning' "$home/$name.log" | tail -12 | cut -c1-180
  done
  [ -n "${OUT:-}" ] || return 0
  for name in image video text; do take_model $name; done
  tar -czf "$OUT/misc.tgz" -C "$home" $(cd "$home" && ls -d *.log out/judge.safetensors out/*/*.log out/*/*.png out/*/*.jpg \
    out/*/*.safetensors 2>/dev/null)
  ls -lR "$OUT" | awk 'NF == 9 {print $5, $9}'
}

take_model() { # all parts of one save: the training may put the next one's in their place meanwhile
  local try
  mkdir -p "$OUT/$1"
  for try in 1 2 3; do
    rm -f "$OUT/$1"/*.tgz.*
    cp "$out/$1"/*.tgz.? "$OUT/$1/" 2>/dev/null
    [ ! -d "$out/$1/model" ] || tar -C "$out/$1" -cz model | split -b 15m -d -a 1 - "$OUT/$1/model.tgz."
    compgen -G "$OUT/$1/*.tgz.?" >/dev/null || return 0
    cat "$OUT/$1"/*.tgz.? | gzip -t 2>/dev/null && return 0
    sleep 2
  done
  echo "=== what there is of $1 is not whole"
}

# the file too: where no init reaps them, processes that ended still answer to kill -0
alive() { [ ! -e "$home/ended" ] && kill -0 -- "-$(cat "$home/pid" 2>/dev/null || echo 999999)" 2>/dev/null; }

case ${1:-} in
start)
  alive && { echo "already running"; exit 1; }
  mkdir -p "$out" "$home/site"
  [ -e "$home/site/diffusers" ] || "$python" -m pip install -q --no-index --no-deps --no-compile --target "$home/site" "$here"/wheels/*.whl || exit 1
  rm -f "$home/ended"
  setsid bash "$here/run.sh" all "${@:2}" >"$home/all.log" 2>&1 </dev/null & echo $! >"$home/pid"
  sleep 1; cat "$home/all.log" ;;
all)
  minutes=$2; shift 2
  count=$("$python" -c 'import torch; print(torch.cuda.device_count())'); device=cuda; processes=1
  if [ "$count" -le 1 ]; then
    [ "$count" = 1 ] || device=cpu
    first=0 last=0 before=0
  else
    last=$((count - 1)); before=$((count > 2 ? count - 2 : last)); first=$(seq -s, 0 $((before > 1 ? before - 1 : 0)))
    processes=$(($(tr -cd , <<<"$first" | wc -c) + 1))
  fi
  echo "$count GPUs: images on $first, video on $before, text on $last"
  more=(); [ $device = cuda ] || more=(--device cpu)
  launch image "$first" images "$minutes" ${more[@]+"${more[@]}"} "$@"
  launch video "$before" supervise video "$minutes" "$python" -m $training.video --data "$here/data/video" --out "$out/video" ${more[@]+"${more[@]}"} "$@"
  launch text "$last" texts "$minutes" ${more[@]+"${more[@]}"} "$@"
  wait
  touch "$home/ended" ;;
wait)
  until=$((SECONDS + ${2:-570}))
  while alive && [ $SECONDS -lt $until ]; do sleep 1; done
  alive && echo "STILL RUNNING" || echo "ALL ENDED"
  collect ;;
collect) collect ;;
stop) kill -- "-$(cat "$home/pid")"; touch "$home/ended"; sleep 1; collect ;;
*) sed -n 4,10p "$here/run.sh"; exit 2 ;;
esac
