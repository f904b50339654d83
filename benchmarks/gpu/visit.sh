#!/usr/bin/env bash
# One visit to a lent H200 without a package registry, step by step, each within ten minutes:
#   part         stores one part.NN of the bundle of packages, which lies in the git-ignored .gpu/ with its unpack.sh
#   prepare      unpacks, starts tests/gpu, makes the checkpoints, starts the application with all three models
#   up KINDS     starts the application with these models
#   watch [S]    tells for S seconds how these get on; ends when they are done, or at the first traceback
#   bare KIND    starts the bare engine of that kind and waits until it has loaded
#   time KIND    times it in turns with the application, then ends it
#   curls        Dynamo's curl lines
#   stop         ends everything and says what was left over
#   two          with two GPUs: Wan 14B over both
# With one GPU: prepare, watch, curls; stop, up video image, bare image, time image, bare video, time video; stop,
# up text, bare text, time text, bare dynamo, time dynamo; stop. That took 26 of the lent 30 minutes.
# What is started runs on between the steps. Logs and results come back under $OUT.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd); here=$root/benchmarks/gpu; bundle=$root/.gpu; state=/tmp/visit; shm=/dev/shm
# .gpu/site may hold what the bundle lacks: anyio 4.16 went along, for its anyio_mode in pyproject.toml
export PYTHONPATH=$bundle/site:/tmp/site:/tmp/site/nvidia_cutlass_dsl/dsl_packages:$root PATH=/tmp/site/bin:$PATH PYTHONUNBUFFERED=1
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0 TOKENIZERS_PARALLELISM=false
export NCCL_NVLS_ENABLE=${NCCL_NVLS_ENABLE:-0} TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
# the machine's memory grows with its use, so that Ray would always find it full and kill replicas
export RAY_memory_monitor_refresh_ms=0
OUT=${OUT:-/tmp/out}; mkdir -p "$OUT" "$state"; cd "$root"
began=$(date +%s); say() { echo "[$(( $(date +%s) - began )) s] $*"; }
background() {  # runs on when this script has ended; its log is $state/NAME.log
  local log=$state/$1.log; shift
  setsid "$@" > "$log" 2>&1 < /dev/null &
}
gpu=(python3 -W ignore -m benchmarks.gpu --folder $shm --state "$state")
logs() {  # the end of each log in one file, so that few files come back
  for f in "$state"/*.log "$state"/*/*.log; do [ -f "$f" ] && { echo "=== $f"; tail -c 400000 "$f"; }; done > "$OUT/logs-$1.txt"
  cp "$state"/results.jsonl "$OUT/results.jsonl" 2>/dev/null
  nvidia-smi --query-gpu=index,memory.used,memory.total,utilization.gpu --format=csv,noheader | tee -a "$OUT/logs-$1.txt"; true
}
tracebacks() { cat "$state"/app.log "$state"/bare-*.log 2> /dev/null | grep -c "Traceback (most recent"; true; }
case $1 in
part) bash "$bundle/unpack.sh" keep "$bundle" ;;
prepare)
  bash "$bundle/unpack.sh" keep "$bundle"; bash "$bundle/unpack.sh" all; say unpacked
  mkdir -p /tmp/site/diffusion_serve-0.1.0.dist-info
  printf 'Metadata-Version: 2.1\nName: diffusion-serve\nVersion: 0.1.0\n' > /tmp/site/diffusion_serve-0.1.0.dist-info/METADATA
  # the bundle lacks the dashboard's pages, without which `serve run` does not start Ray
  mkdir -p /tmp/site/ray/dashboard/client/build/static; echo "<html></html>" > /tmp/site/ray/dashboard/client/build/index.html
  # the memory file system was sized from the little memory that a fresh machine shows
  mount -o remount,size=100G /dev/shm || echo "remount failed"
  nvidia-smi -L; nproc; df -h /dev/shm /tmp | tail -2; free -g | sed -n 2p
  test() { background "$1" timeout 900 python3 -W ignore -m pytest -v -s -p no:cacheprovider -o addopts= -o filterwarnings=ignore "${@:2}"; }
  test tests-engines tests/gpu/test_text.py tests/gpu/test_image.py tests/gpu/test_video.py
  test tests-app tests/gpu/test_app.py
  python3 -W ignore -c 'import torch,sglang,ray,pytest,anyio,httpx,s3fs,pyarrow,imageio_ffmpeg;print(torch.__version__,sglang.__version__,ray.__version__,pytest.__version__,torch.cuda.device_count(),imageio_ffmpeg.get_ffmpeg_exe())'
  timeout 300 "${gpu[@]}" models --only flux wan-1.3b llada > "$state/models.log" 2>&1; say "checkpoints: $?"
  tail -3 "$state/models.log"; du -sh $shm/*/*
  background start "${gpu[@]}" start --wait 560
  logs prepare ;;
up)
  for n in app start; do [ -f "$state/$n.log" ] && mv "$state/$n.log" "$state/$n-$began.log"; done
  background start "${gpu[@]}" start --wait 560 --kinds "${@:2}" ;;
watch)
  before=$(tracebacks)
  while [ $(( $(date +%s) - began )) -lt "${2:-60}" ]; do
    sleep 4
    [ "$(tracebacks)" -gt "$before" ] && { say "a traceback"; grep -hs -A40 "Traceback (most recent" "$state"/app.log "$state"/bare-*.log | tail -60 | cut -c1-300; break; }
    grep -q "^application after" "$state/start.log" && ! pgrep -f "pytest.*tests/gpu/[t]est" > /dev/null && break
  done
  say "watched"; cat "$state/start.log"
  curl -s -m 3 localhost:8000/ready | head -c 600; echo
  grep -hE "PASSED|FAILED|ERROR|SKIPPED|passed|failed|served again|answered|Error:" "$state"/tests-*.log | cut -c1-250 | tail -"${3:-50}"
  for n in app tests-engines tests-app; do echo "-- $n"; grep -v '^$' "$state/$n.log" | tail -4 | cut -c1-300; done
  logs watch ;;
bare)
  "${gpu[@]}" bare --kinds "$2" --wait 240; tail -3 "$state/bare-$2.log" | cut -c1-300; logs "bare-$2" ;;
time)
  "${gpu[@]}" time --results "$state/results.jsonl" --rounds "${3:-4}" --kinds "$2" 2>&1 | tee -a "$state/time.log"; say "$2"; logs "time-$2" ;;
curls)
  bash "$here/curls.sh" 2>&1 | tee "$state/curls.log" | cut -c1-1200; bash "$here/curls.sh" chat 2>&1 | tee -a "$state/curls.log" | cut -c1-1200
  cp /tmp/image.bin "$OUT/image.png"; cp /tmp/video.bin "$OUT/video.mp4"; find $shm/media -type f | head -20; logs curls ;;
stop) "${gpu[@]}" stop; sleep 1; pgrep -af "sgl|serve" | cut -c1-150; logs stop ;;
two)
  timeout 490 "${gpu[@]}" two-gpus --results "$state/results.jsonl" --parallel ${2:-cfg tensor} 2>&1 | tee "$state/two.log" | tail -40
  logs two ;;
esac
