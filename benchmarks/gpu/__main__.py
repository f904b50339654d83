"""Measure this project beside the bare engines on a machine with GPUs, with random weights of the published shapes.

    python -m benchmarks.gpu models                       makes the checkpoints, once
    python -m benchmarks.gpu image [--gpus 0] [--port N]  measures a lane: image, text, video, two (GPUs), ...

A lane starts the application (cluster/one-gpu.yaml with one model) and the bare engine on its GPUs, lets them take
turns, and writes a row for each work as soon as it is there. Two lanes can run at once if each has a GPU, a port and a
state folder of its own. The lane `dynamo` is the bare text engine with the settings of Dynamo's launch script.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks.gpu import images, presets, starts, texts, two, videos
from benchmarks.gpu.app import ROOT
from benchmarks.gpu.lane import CHECKPOINTS, Lane
from benchmarks.gpu.measure import gpu_count, table


def make_models(folder: Path, *, tiny: bool, only: list[str]) -> None:
    """All checkpoints at once, the two largest on GPUs of their own."""
    running: list[subprocess.Popen[bytes]] = []
    for i, name in enumerate(only):
        command = [sys.executable, "-m", "benchmarks.gpu.checkpoints", name, str(folder / CHECKPOINTS[name])]
        env = os.environ | {"CUDA_VISIBLE_DEVICES": str(i % gpu_count())} if gpu_count() else os.environ
        running.append(subprocess.Popen([*command, "--tiny"] if tiny else command, cwd=ROOT, env=env))
    for name, process in zip(only, running, strict=True):
        if process.wait() != 0:
            raise SystemExit(f"the checkpoint {name} could not be made")


def main() -> None:
    one = {
        "image": images.measure_images,
        "presets": presets.measure_presets,
        "video-presets": presets.measure_video_presets,
        "starts": starts.measure_starts,
        "adapters": images.measure_adapters,
        "graphs": images.measure_graphs,
        "fp8": images.measure_fp8,
        "batches": images.measure_batches,
        "video": videos.measure_videos,
        "text": texts.measure_texts,
        "text-settings": texts.vary_texts,
        "dynamo": texts.measure_dynamo,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=["models", "demo", "two", *one], help="one after another")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="for checkpoints")
    parser.add_argument(
        "--state", type=Path, default=Path("/dev/shm/benchmarks-gpu"), help="for logs, caches and media"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "gpu.jsonl")
    parser.add_argument("--gpus", default="0", help="as in CUDA_VISIBLE_DEVICES")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--lock", type=Path, help="a file that lanes on one GPU lock while they measure")
    parser.add_argument("--only", nargs="+", default=list(CHECKPOINTS), help="checkpoints to make")
    parser.add_argument("--parallel", nargs="+", default=["cfg", "tensor", "sequence"])
    parser.add_argument("--no-flux", action="store_true", help="`two` measures Wan 14B alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="of the 14B model")
    parser.add_argument("--demo", type=Path, default=ROOT / "serve_app" / "demo" / "flux-tiny")
    parser.add_argument("--tiny", action="store_true", help="small checkpoints and shapes: to try the script itself")
    args = parser.parse_args()
    args.state.mkdir(parents=True, exist_ok=True)
    args.results.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for what in args.what:
        if what == "models":
            make_models(args.folder, tiny=args.tiny, only=args.only)
            continue
        lane = Lane(
            what,
            args.folder,
            args.state,
            args.results,
            args.gpus,
            args.port,
            tiny=args.tiny,
            rounds=args.rounds,
            lock=args.lock,
        )
        more: dict[str, Callable[[Lane], None]] = {
            "demo": lambda lane: presets.measure_demo(lane, args.demo),
            "two": lambda lane: two.measure_two(lane, args.parallel, steps=args.steps, flux=not args.no_flux),
        }
        try:
            (one | more)[what](lane)
        except Exception:  # noqa: BLE001 - the next is still measured
            print(f"{what} FAILED", flush=True)
            traceback.print_exc()
        rows += lane.rows
        args.port += 10
    if rows:
        print(table(rows))
    print("LANE ENDED:", *args.what, flush=True)


if __name__ == "__main__":
    main()
