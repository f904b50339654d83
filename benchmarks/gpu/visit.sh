#!/usr/bin/env bash
# One visit to two lent H200s without a package registry, step by step, each within ten minutes:
#   part      stores one part.NN of the bundle (benchmarks/README.md says how it gets there)
#   prepare   unpacks, makes the checkpoints
#   up        starts the application on GPU 0 and the bare engines on GPU 1, where tests/gpu runs meanwhile
#   time      images, videos, text, Dynamo's settings and its curl lines
#   two       Wan 14B over both GPUs
# Logs and results come back under $OUT.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd); here=$root/benchmarks/gpu; bundle=$root/.gpu; state=/tmp/visit; shm=/dev/shm
export PYTHONPATH=/tmp/site:/tmp/site/nvidia_cutlass_dsl/dsl_packages:$root PATH=/tmp/site/bin:$PATH PYTHONUNBUFFERED=1
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0 TOKENIZERS_PARALLELISM=false
export NCCL_NVLS_ENABLE=${NCCL_NVLS_ENABLE:-0} TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
OUT=${OUT:-/tmp/out}; mkdir -p "$OUT" "$state"; cd "$root"
began=$(date +%s); say() { echo "[$(( $(date +%s) - began )) s] $*"; }
logs() {  # the end of each log in one file, so that few files come back
  for f in "$state"/*.log "$state"/*/*.log; do [ -f "$f" ] && { echo "=== $f"; tail -c 700000 "$f"; }; done > "$OUT/logs-$1.txt"
  cp "$state"/results.jsonl "$OUT/results.jsonl" 2>/dev/null; nvidia-smi --query-gpu=index,memory.used,memory.total,utilization.gpu --format=csv >> "$OUT/logs-$1.txt" 2>&1; true
}
case $1 in
part) bash "$bundle/unpack.sh" keep "$bundle" ;;
prepare)
  bash "$bundle/unpack.sh" keep "$bundle"; bash "$bundle/unpack.sh" all; say unpacked
  mkdir -p /tmp/site/diffusion_serve-0.1.0.dist-info
  printf 'Metadata-Version: 2.1\nName: diffusion-serve\nVersion: 0.1.0\n' > /tmp/site/diffusion_serve-0.1.0.dist-info/METADATA
  # the memory file system was sized from the little memory that a fresh machine shows
  mount -o remount,size=180G /dev/shm || echo "remount failed"
  nvidia-smi -L; nproc; df -h /dev/shm /tmp; free -g | head -2
  timeout 400 python3 -W ignore -m benchmarks.gpu models --folder $shm > "$state/models.log" 2>&1 &
  making=$!
  python3 -c 'import torch,sglang,ray,pytest,anyio;print(torch.__version__,sglang.__version__,ray.__version__,pytest.__version__,torch.cuda.device_count())'
  python3 -c 'import serve_app.app, serve_app.engines.load, httpx, s3fs, pyarrow, imageio_ffmpeg;print(imageio_ffmpeg.get_ffmpeg_exe())'
  wait $making; say "checkpoints: $?"; tail -3 "$state/models.log"
  du -sh $shm/*/*; nvidia-smi topo -m | head -4; logs prepare ;;
up)
  # the application and the bare engines load; meanwhile small checkpoints are tested on GPU 1
  rm -rf "$state"; mkdir -p "$state"
  setsid timeout 540 python3 -W ignore -m benchmarks.gpu start --folder $shm --state "$state" --wait 500 > "$state/start.log" 2>&1 < /dev/null &
  start=$!
  export CUDA_VISIBLE_DEVICES=1
  test() { timeout 520 python3 -W ignore -m pytest -q -s -p no:cacheprovider -o addopts= -o filterwarnings=ignore "$@"; }
  test tests/gpu/test_text.py tests/gpu/test_image.py tests/gpu/test_video.py > "$state/tests-engines.log" 2>&1 & engines=$!
  test tests/gpu/test_app.py > "$state/tests-app.log" 2>&1 & app=$!
  unset CUDA_VISIBLE_DEVICES
  wait $start; say "started"
  for i in $(seq 1 60); do  # the tests may take until 7 minutes after the beginning
    [ $(( $(date +%s) - began )) -gt 420 ] && break
    kill -0 $engines 2>/dev/null || kill -0 $app 2>/dev/null || break
    sleep 2
  done
  python3 - $engines $app <<'END'
import os, signal, sys
from contextlib import suppress
from serve_app.engines.sglang.processes import descendants
for pid in map(int, sys.argv[1:]):
    for each in (*descendants(pid), pid):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
END
  say done; cat "$state/start.log"
  grep -hE "passed|failed|FAILED|ERROR|served again|answered|Error" "$state"/tests-*.log | cut -c1-300 | tail -40
  for n in text image video; do echo "-- bare $n"; tail -2 "$state/bare-$n.log" | cut -c1-300; done
  nvidia-smi --query-gpu=index,memory.used --format=csv,noheader; logs up ;;
time)
  measure() { timeout "$1" python3 -W ignore -m benchmarks.gpu time --folder $shm --state "$state" --results "$state/results.jsonl" --rounds 4 --kinds "${@:2}" 2>&1 | tee -a "$state/time.log"; }
  measure 260 image video; say "images and videos"
  timeout 150 python3 -W ignore -m benchmarks.gpu dynamo --folder $shm --state "$state" --wait 140 > "$state/dynamo.log" 2>&1 &
  dynamo=$!
  timeout 100 bash "$here/curls.sh" 2>&1 | tee "$state/curls.log" | cut -c1-900
  wait $dynamo; cat "$state/dynamo.log"; say "dynamo's settings"
  measure 220 text
  timeout 60 bash "$here/curls.sh" chat 2>&1 | tee -a "$state/curls.log" | cut -c1-900
  say done; find $shm/media -type f | head; logs time ;;
two)
  timeout 70 python3 -W ignore -m benchmarks.gpu stop --state "$state"; sleep 2
  nvidia-smi --query-gpu=index,memory.used --format=csv,noheader
  timeout 490 python3 -W ignore -m benchmarks.gpu two-gpus --folder $shm --state "$state" --results "$state/results.jsonl" --parallel ${2:-cfg tensor} 2>&1 | tee "$state/two.log" | tail -40
  say done; logs two ;;
esac
