#!/usr/bin/env bash
# One visit to a lent machine with two GPUs (or one) and no package registry, in calls of at most ten minutes each:
#   part            stores one part.NN of the bundle of packages, which lies in the git-ignored .gpu/ with its unpack.sh
#   prepare         unpacks, then starts tests/gpu and the making of the checkpoints
#   lanes           starts a lane of images, and on the second GPU one of text
#   more GPU WHAT.. starts further lanes of `python -m benchmarks.gpu` on a GPU: video fp8 batches demo text-settings
#   two [WAYS]      starts Wan 14B and FLUX over both GPUs
#   watch [S]       tells for S seconds how these get on; ends when all of them have, or one failed
#   keep LANE       brings back what a lane compiled, for a later visit (.gpu/, then unpack it below LANE/home)
#   stop            ends everything and says what was left over
# What is started runs on between the calls. Logs and results come back under $OUT with every call.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd); bundle=$root/.gpu; state=/tmp/visit; shm=/dev/shm/visit
export PYTHONPATH=/tmp/extra:/tmp/site:/tmp/site/nvidia_cutlass_dsl/dsl_packages:$root PATH=/tmp/site/bin:$PATH
export PYTHONUNBUFFERED=1 PYTORCH_SKIP_CUDNN_COMPATIBILITY_CHECK=1
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
test() {  # test NAME GPU FILES...
  CUDA_VISIBLE_DEVICES=$2 background "tests-$1" timeout 900 python3 -W ignore -m pytest -v -s --tb=short \
    -p no:cacheprovider -o addopts= -o filterwarnings=ignore "${@:3}"
}
lane() {  # lane NAME GPU PORT WHAT...: the application's caches are those of NAME, so that its first start is cold
  mkdir -p "$shm/$1"
  background "lane-$1-$began" timeout 1500 python3 -W ignore -m benchmarks.gpu "${@:4}" --folder "$shm" --state "$shm/$1" \
    --results "$state/results.jsonl" --gpus "$2" --port "$3" ${DEMO:+--demo "$DEMO"} ${ROUNDS:+--rounds "$ROUNDS"} ${WAYS:+--parallel $WAYS}
}
collect() {
  for f in "$state"/*.log "$shm"/*/*.log; do [ -f "$f" ] && { echo "=== $f"; tail -c 150000 "$f"; }; done > "$OUT/logs.txt"
  gzip -f "$OUT/logs.txt"
  cp "$state/results.jsonl" "$OUT/" 2> /dev/null; tar -C "$shm" -czf "$OUT/pictures.tgz" $(cd "$shm" && ls -d */pictures/*demo* 2> /dev/null) 2> /dev/null
  nvidia-smi --query-gpu=index,memory.used,utilization.gpu --format=csv,noheader
}
count=$(nvidia-smi -L | wc -l); last=$((count - 1))
case $1 in
part) bash "$bundle/unpack.sh" keep "$bundle"; [ -d "$bundle/extra" ] && cp -r "$bundle/extra" /tmp/; [ -d "$bundle/demo" ] && cp -r "$bundle/demo" /tmp/; true ;;
prepare)
  bash "$bundle/unpack.sh" all | tail -1; say unpacked
  # the machine writes no bytecode: each process would compile what it imports anew
  python3 -m compileall -q -j 0 /tmp/site /tmp/extra > /dev/null 2>&1; say compiled
  mkdir -p /tmp/site/diffusion_serve-0.1.0.dist-info; cd /tmp/site/diffusion_serve-0.1.0.dist-info
  printf 'Metadata-Version: 2.1\nName: diffusion-serve\nVersion: 0.1.0\n' > METADATA
  printf '[sglang.multimodal_gen.plugins]\ndiffusion-serve-stopping = serve_app.engines.sglang.stopping:register\n' > entry_points.txt
  cd "$root"
  # the bundle lacks the dashboard's pages, without which `serve run` does not start Ray
  mkdir -p /tmp/site/ray/dashboard/client/build/static; echo "<html></html>" > /tmp/site/ray/dashboard/client/build/index.html
  # the memory file system was sized from the little memory that a fresh machine shows
  mount -o remount,size=150G /dev/shm || echo "remount failed"
  nvidia-smi -L; nproc; df -h /dev/shm /tmp | tail -2
  background models timeout 400 python3 -W ignore -m benchmarks.gpu models --folder "$shm" --state "$shm/models" \
    --only ${MODELS:-llada flux wan-1.3b $([ "$count" -gt 1 ] && echo wan-14b)}
  [ -n "${TESTS-all}" ] || { collect; exit; }
  test image 0 tests/gpu/test_image.py; test video "$last" tests/gpu/test_video.py; test text "$last" tests/gpu/test_text.py
  test adapters 0 tests/gpu/test_adapters.py; test app "$last" tests/gpu/test_app.py
  [ "$count" -gt 1 ] && test parallel 0,1 tests/gpu/test_parallel.py
  collect ;;
lanes)
  lane image 0 8100 image
  [ "$count" -gt 1 ] && lane text 1 8200 text
  collect ;;
await)  # await LOG S: until a lane's log says that it has ended, or so many seconds have passed
  for ((i = 0; i < $3; i++)); do grep -q "^== ENDED" "$state"/$2*.log && break; sleep 1; done ;;
more) lane "$3" "$2" "84${2}0" "${@:3}"; collect ;;
two) WAYS="${*:2}" lane two 0,1 8500 two; collect ;;
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
stop)
  pkill -INT -f "benchmarks[.]gpu|pytest"; sleep 5; pkill -9 -f "benchmarks[.]gpu|pytest|sgl|ray"; sleep 1; pgrep -af "sgl|serve" | cut -c1-150; collect ;;
esac
