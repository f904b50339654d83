#!/usr/bin/env bash
# One visit to a lent machine with two GPUs (or one) and no package registry, in calls of at most ten minutes each:
#   part            stores one part.NN of the bundle of packages, which lies in the git-ignored .gpu/ with its unpack.sh
#   prepare         unpacks, then starts the making of the checkpoints
#   tests GPU NAME..  starts tests/gpu/test_NAME.py, each by itself
#   lane GPU WHAT.. starts `python -m benchmarks.gpu WHAT...` on a GPU, or on 0,1
#   await LOG S     waits until what writes such a log has ended, S seconds at most
#   watch [S]       tells for S seconds how these get on; ends when all of them have, or one failed
#   keep LANE       brings back what a lane compiled, for a later visit (.gpu/, then unpack it below LANE/home)
#   stop            ends everything and says what was left over
#   plan N          the above in 30 minutes, N from 1 to 4 on two GPUs, to 3 on one, each a call of its own, back to back
# What is started runs on between the calls, each GPU's with its share of the cores, so that one does not slow the other.
# Logs and results come back under $OUT with every call.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd); bundle=$root/.gpu; state=/tmp/visit; shm=/dev/shm/visit
export PYTHONPATH=/tmp/extra:/tmp/site:/tmp/site/nvidia_cutlass_dsl/dsl_packages:$root PATH=/tmp/site/bin:$PATH
export PYTHONUNBUFFERED=1 PYTORCH_SKIP_CUDNN_COMPATIBILITY_CHECK=1
# the image has jax and flax, which a user's environment has not: diffusers would import them for seconds
export USE_FLAX=0
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0 TOKENIZERS_PARALLELISM=false
export NCCL_NVLS_ENABLE=${NCCL_NVLS_ENABLE:-0} TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
# the machine's memory grows with its use, so that Ray would always find it full and kill replicas
export RAY_memory_monitor_refresh_ms=0
OUT=${OUT:-/tmp/out}; mkdir -p "$OUT" "$state" "$shm"; cd "$root"
began=$(date +%s); say() { echo "[$(( $(date +%s) - began )) s] $*"; }
background() {  # background NAME COMMAND...: runs on when this script has ended; its log is $state/NAME.log
  local name=$1; shift
  echo "== began $(date +%T)" > "$state/$name.log"
  setsid bash -c '"${@:2}" >> "$1" 2>&1; echo "== ENDED with $? $(date +%T)" >> "$1"' - "$state/$name.log" "$@" < /dev/null > /dev/null 2>&1 &
}
count=$(nvidia-smi -L | wc -l); share=$(( $(nproc) / count ))  # cores for each GPU
cores() { echo "$(( ${1%%,*} * share ))-$(( (${1##*,} + 1) * share - 1 ))"; }  # cores GPUS
tests() {  # tests GPU NAMES..., with more for pytest in $PICK
  for name in "${@:2}"; do
    CUDA_VISIBLE_DEVICES=$1 background "tests-$name${PICK:+-${PICK#-k }}" timeout 900 taskset -c "$(cores "$1")" python3 -W ignore -m pytest -v -s \
      --tb=short -p no:cacheprovider -o addopts= -o filterwarnings=ignore "tests/gpu/test_$name.py" ${PICK-}
  done
}
lane() {  # lane GPU WHAT...: with caches of its own, so that its first start is cold, or with those of the lane $STATE
  # on $CORES of the GPU's and on $PORT, if two share a GPU; with ALONE=1 texts on it are measured only when it has ended
  local own=$shm/${STATE:-$2} lock=$state/measuring; mkdir -p "$own"
  background "lane-$2-${1/,/-}-$began" ${ALONE:+flock -o "$lock"} timeout 1500 taskset -c "${CORES:-$(cores "$1")}" \
    python3 -W ignore -m benchmarks.gpu "${@:2}" --folder "$shm" --state "$own" --results "$state/results.jsonl" --lock "$lock" \
    --gpus "$1" --port "${PORT:-$(( 8100 + 100 * ${1%%,*} ))}" \
    ${DEMO:+--demo "$DEMO"} ${ROUNDS:+--rounds "$ROUNDS"} ${WAYS:+--parallel $WAYS}
}
collect() {
  for f in "$state"/*.log "$shm"/*/*.log; do [ -f "$f" ] && { echo "=== $f"; tail -c 150000 "$f"; }; done > "$OUT/logs.txt"
  gzip -f "$OUT/logs.txt"
  cp "$state/results.jsonl" "$OUT/" 2> /dev/null; tar -C "$shm" -czf "$OUT/pictures.tgz" $(cd "$shm" && ls -d */pictures/*demo* 2> /dev/null) 2> /dev/null
  nvidia-smi --query-gpu=index,memory.used,utilization.gpu --format=csv,noheader
}
case $1 in
part) bash "$bundle/unpack.sh" keep "$bundle"; [ -d "$bundle/extra" ] && cp -r "$bundle/extra" /tmp/; [ -d "$bundle/demo" ] && cp -r "$bundle/demo" /tmp/; true ;;
prepare)
  bash "$bundle/unpack.sh" all | tail -1; say unpacked
  # the machine writes no bytecode: each process would compile what it imports anew
  python3 -m compileall -q -j 0 /tmp/site /tmp/extra serve_app benchmarks tests > /dev/null 2>&1; say compiled
  background compile nice python3 -m compileall -q -j 16 "$(PYTHONPATH= python3 -c 'import numpy; print(numpy.__path__[0][:-6])')"
  mkdir -p /tmp/site/diffusion_serve-0.1.0.dist-info; cd /tmp/site/diffusion_serve-0.1.0.dist-info
  printf 'Metadata-Version: 2.1\nName: diffusion-serve\nVersion: 0.1.0\n' > METADATA
  printf '[%s]\n%s = %s:register\n' sglang.multimodal_gen.plugins diffusion-serve-stopping serve_app.engines.sglang.stopping \
    sglang.srt.plugins diffusion-serve-mixed-batches serve_app.engines.sglang.mixed_batches > entry_points.txt
  cd "$root"
  # the bundle lacks the dashboard's pages, without which `serve run` does not start Ray
  mkdir -p /tmp/site/ray/dashboard/client/build/static; echo "<html></html>" > /tmp/site/ray/dashboard/client/build/index.html
  # the memory file system was sized from the little memory that a fresh machine shows
  mount -o remount,size=150G /dev/shm || echo "remount failed"
  nvidia-smi -L; nproc; df -h /dev/shm /tmp | tail -2
  [ "${MODELS-}" = none ] && exit
  python3 -W ignore -m benchmarks.gpu models --folder "$shm" --state "$shm/models" --only llada | tail -1; say "llada made"
  background models timeout 400 python3 -W ignore -m benchmarks.gpu models --folder "$shm" --state "$shm/models" \
    --only ${MODELS:-flux wan-1.3b $([ "$count" -gt 1 ] && echo wan-14b)}
  collect ;;
tests) tests "${@:2}"; collect ;;
lane) lane "${@:2}"; collect ;;
await)
  log=$(ls -t "$state"/$2*.log | head -1)
  # what is there comes back also when the call is cut off at its limit
  for ((i = 0; i < $3; i++)); do grep -q "^== ENDED" "$log" && break; sleep 1; (( i % 20 )) || collect > /dev/null; done; say "awaited $log" ;;
watch)
  while [ $(( $(date +%s) - began )) -lt "${2:-60}" ]; do
    sleep 3
    [ "$(ls "$state"/*.log | wc -l)" = "$(grep -l '^== ENDED' "$state"/*.log | wc -l)" ] && break
    [ -f "$state/seen" ] || touch "$state/seen"
    new=$(grep -lE '(^|[ :])(FAILED|ERROR)|FAILED' "$state"/*.log 2> /dev/null | sort); [ "$new" != "$(cat "$state/seen")" ] && { echo "$new" > "$state/seen"; say "a failure"; break; }
  done
  say watched
  for f in "$state"/*.log; do
    echo "--- $(basename "$f") $(tail -1 "$f" | cut -c1-150)"
    case $f in
      */tests-*) grep -hE " (PASSED|FAILED|ERROR|SKIPPED)|^(PASSED|FAILED|ERROR)|passed|failed|^E  |served again|answered" "$f" | cut -c1-220 | tail -"${3:-22}" ;;
      *) grep -v '^$' "$f" | tail -"${3:-14}" | cut -c1-420 ;;
    esac
  done
  collect ;;
keep) tar -C "$shm/$2/home" -cz compiled | split -b 15m -d -a 1 - "$OUT/compiled-$2.tgz." ;;
plan)
  mine=$0; compiled() { export SGLANG_CACHE_DIR=$shm/$1/home/compiled SGLANG_JIT_CACHE_DIR=$shm/$1/home/compiled/jit; }
  case $count-$2 in
  1-1)  # to about 580 s: texts alone, whose first start compiles
    MODELS="flux wan-1.3b" bash "$mine" prepare; bash "$mine" lane 0 text-settings dynamo
    bash "$mine" await lane-text 480; bash "$mine" watch 1 12 ;;
  1-2)  # to about 1,000 s
    bash "$mine" await lane-text 420; bash "$mine" watch 1 12 ;;
  1-3)  # what time is left for, images of a folder of our own among it
    [ -d /tmp/demo/flux-tiny ] && cp -r --update=none /tmp/demo/flux-tiny serve_app/demo/
    (compiled text-settings; bash "$mine" tests 0 text text_models app)
    bash "$mine" tests 0 image video adapters edit demo; bash "$mine" watch "${3:-480}" 12 ;;
  2-1)  # to about 570 s: both GPUs; what is alone there is measured alone
    MODELS="flux wan-14b wan-1.3b" bash "$mine" prepare; bash "$mine" await models 200
    (export WAYS="sequence tensor"; bash "$mine" lane 0,1 two); bash "$mine" await lane-two 240; bash "$mine" watch 1 12 ;;
  2-2)  # to about 1,100 s: what runs on both, then texts on one
    bash "$mine" await lane-two 240; (compiled two; bash "$mine" tests 0,1 two); bash "$mine" await tests-two 240
    bash "$mine" lane 1 text-settings dynamo; bash "$mine" watch 1 12 ;;
  2-3)  # what time is left for
    (compiled two; bash "$mine" tests 0 image video adapters edit demo); bash "$mine" await lane-text 500; bash "$mine" watch 1 12 ;;
  2-4) (compiled text-settings; bash "$mine" tests 1 text text_models app); bash "$mine" watch "${3:-300}" 12 ;;
  esac ;;
stop)
  pkill -INT -f "benchmarks[.]gpu|pytest"; sleep 5; pkill -9 -f "benchmarks[.]gpu|pytest|sgl|ray"; sleep 1; pgrep -af "sgl|serve" | cut -c1-150; collect ;;
esac
