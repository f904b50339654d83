"""A soak: mixed traffic for minutes with a rolling redeploy in its middle, and what grew or was left behind.

    python benchmarks/soak.py [--seconds 600] [--json benchmarks/results/soak.jsonl]

Starts the demo profile on a local Ray and lets `benchmarks/load.py` drive it. Meanwhile it looks every few seconds at
each process of Ray Serve (memory of its own, open files, threads), and in the middle it deploys the application
again with a changed setting, which replaces every replica. Memory counts from `--settle` seconds after the start or
the redeploy, when each kind has been asked for, until the next of the two. At the end, an idle while later, it counts
what is left: processes, temporary files, and objects in the store that belong to no job and no image that was
answered. Prints a table, then one JSON line; fails where a request failed or something was left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import ray
from ray import serve

HERE = Path(__file__).parent
PORT = 18432
EVERY_S = 5.0
RATES = {"text": 1.0, "image": 0.5, "video": 0.1}
BODIES: dict[str, dict[str, Any]] = {
    "text": {"max_tokens": 32},
    "image": {"size": "128x128", "nvext": {"num_inference_steps": 4}},
    "video": {"size": "64x64", "seconds": "1", "nvext": {"num_frames": 9, "num_inference_steps": 2}},
}
FILES_OF_A_JOB = 3  # the video, its thumbnail and its spritesheet


@dataclass(frozen=True)
class Look:
    """One process at one time. Memory is what would be freed if it ended (USS), in MB."""

    at_s: float
    pid: int
    name: str
    memory_mb: float
    files: int
    threads: int


def look(at_s: float, root: psutil.Process) -> list[Look]:
    """Every process of Ray Serve below this one, by the name Ray gives it."""
    looks: list[Look] = []
    for process in root.children(recursive=True):
        try:
            title = process.cmdline()[0] if process.cmdline() else ""
            if not title.startswith("ray::") or title.startswith("ray::IDLE"):
                continue
            name = title.removeprefix("ray::").split(".")[0].removeprefix("ServeReplica:diffusion:")
            with process.oneshot():
                memory = process.memory_full_info().uss / 1e6
                looks.append(Look(at_s, process.pid, name, memory, process.num_fds(), process.num_threads()))
        except (psutil.Error, IndexError):
            continue  # gone meanwhile
    return looks


def growth(looks: list[Look], phases: list[tuple[float, float]]) -> list[dict[str, Any]]:
    """For each process and phase: memory, files and threads at the phase's two ends (medians of three looks)."""
    rows: list[dict[str, Any]] = []
    by_process: dict[tuple[int, str], list[Look]] = defaultdict(list)
    for each in looks:
        by_process[each.pid, each.name].append(each)
    for (_, name), all_of_it in by_process.items():
        for number, (begin, end) in enumerate(phases, 1):
            seen = [each for each in all_of_it if begin <= each.at_s <= end]
            if len(seen) < 6:
                continue
            first, last = (sorted(part, key=lambda one: one.memory_mb)[1] for part in (seen[:3], seen[-3:]))
            rows.append(
                {
                    "process": name,
                    "half": number,
                    "minutes": round((seen[-1].at_s - seen[0].at_s) / 60, 1),
                    "memory_mb": [round(first.memory_mb, 1), round(last.memory_mb, 1)],
                    "files": [first.files, last.files],
                    "threads": [first.threads, last.threads],
                }
            )
    return sorted(rows, key=lambda row: (row["half"], row["process"]))


def left_behind(media: Path, before: set[str], results: dict[str, Any]) -> dict[str, Any]:
    """What should not be there any more, or not be there at all."""
    stored = [path for path in media.rglob("*") if path.is_file()]
    jobs = [path for path in (media / "jobs").glob("*/*") if path.is_dir()]
    made = len([path for path in stored if "media" in path.relative_to(media).parts[:1]])
    expected = results["image"]["ok"] + FILES_OF_A_JOB * results["video"]["ok"]
    return {
        "unfinished_files": len([path for path in stored if ".tmp" in path.parts]),
        "temporary": sorted(set(scratch()) - before),
        "jobs_without_a_request": len(jobs) - results["video"]["sent"],
        "media_objects_beyond_what_was_answered": made - expected,
    }


def scratch() -> list[str]:
    """Our temporary files and folders, wherever this machine keeps such."""
    folders = {Path(tempfile.gettempdir()), Path("/dev/shm")}
    return [str(path) for folder in folders if folder.is_dir() for path in folder.glob("diffusion-serve-*")]


def drive(seconds: float, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(HERE / "load.py"), "--url", f"http://127.0.0.1:{PORT}", "--seconds", str(seconds)]
    command += ["--requests", "100000", "--drain-s", "180"]
    for kind, rate in RATES.items():
        command += [f"--{kind}-rate", str(rate), f"--{kind}-body", json.dumps(BODIES[kind])]
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--settle", type=float, default=45.0, help="seconds before memory counts")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds from the last answer until the last look")
    parser.add_argument("--json", type=Path, help="append the JSON line to this file")
    args = parser.parse_args()
    from serve_app.app import build
    from serve_app.environment import home_folder
    from serve_app.settings import Settings

    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        media, log = Path(folder) / "media", Path(folder) / "load.log"
        settings: dict[str, Any] = {"profile": "demo", "home": str(home_folder()), "media": {"root": media.as_uri()}}
        ray.init(include_dashboard=False, num_cpus=8, log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": PORT})
        serve.run(build(Settings.model_validate(settings)), name="diffusion", route_prefix="/")
        root, before = psutil.Process(), set(scratch())
        looks = began_with = look(0.0, root)
        load, began = drive(args.seconds, log), time.monotonic()
        halves: list[tuple[float, float]] = []
        since = 0.0
        while load.poll() is None:
            at = time.monotonic() - began
            if not halves and at > args.seconds / 2:
                halves.append((since + args.settle, at))
                changed = settings | {"models": {"image": {"defaults": {"num_inference_steps": 3}}}}
                serve.run(build(Settings.model_validate(changed)), name="diffusion", route_prefix="/")
                since = time.monotonic() - began
                print(f"redeployed within {since - at:.0f} s", file=sys.stderr, flush=True)
            looks = looks + look(at, root)
            time.sleep(EVERY_S)
        halves.append((since + args.settle, time.monotonic() - began))
        time.sleep(args.idle)
        ended_with = look(time.monotonic() - began, root)
        said = log.read_text().splitlines()
        results = json.loads(said[-1])["results"]
        left = left_behind(media, before, results)
        serve.shutdown()
        ray.shutdown()
        still = [process.name() for process in root.children(recursive=True) if process.pid != load.pid]
    left["processes_more_than_at_the_start"] = len(ended_with) - len(began_with)
    left["processes_after_the_end"] = still
    rows = growth(looks, halves)
    print("\n".join(line for line in said[:-1]))
    print(f"{'process':<22}{'half':>5}{'minutes':>9}{'memory MB':>20}{'files':>12}{'threads':>12}")
    for row in rows:
        pairs = [f"{row[name][0]:g} > {row[name][1]:g}" for name in ("memory_mb", "files", "threads")]
        print(f"{row['process']:<22}{row['half']:>5}{row['minutes']:>9}{pairs[0]:>20}{pairs[1]:>12}{pairs[2]:>12}")
    print("left behind:", left)
    line = {
        "benchmark": "soak",
        "date": date.today().isoformat(),
        "cpus": os.cpu_count(),
        "ray": ray.__version__,
        "seconds": args.seconds,
        "results": results,
        "processes": rows,
        "left": left,
        "looks": len(looks),
        "started_with": [asdict(each) for each in began_with],
    }
    print(json.dumps(line))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        with args.json.open("a") as file:
            file.write(json.dumps(line) + "\n")
    failed = [kind for kind, result in results.items() if result["ok"] != result["sent"]]
    return 1 if failed or any(left.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
