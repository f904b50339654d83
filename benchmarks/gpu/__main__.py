"""Measure this project beside the bare engines on a machine with GPUs, with random weights of the published shapes.

    python -m benchmarks.gpu all [--folder /dev/shm] [--results benchmarks/results/h200.jsonl]

`all` is `models`, `start`, then `bare` and `time` of each kind, `stop` and `two-gpus` after one another; each can be
run by itself, and what `start` and `bare` started goes on running until it was timed or until `stop`. The application
serves its models on GPU 0 (cluster/one-gpu.yaml). A bare engine holds one of them on the last GPU, and ends when it was
timed. They take turns: nothing else computes while one of them is timed. On one GPU of 141 GB there is no room for
a bare engine beside all three models, so `all` serves images and videos first, then text. The kind `dynamo` is the bare
text engine with the settings of Dynamo's launch script.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.gpu.app import ROOT, App, lives
from benchmarks.gpu.bare import Bare
from benchmarks.gpu.measure import Row, dump, in_turns, post, prompts, table, tokens_per_second
from serve_app.engines.sglang.processes import descendants

FLUX, WAN, WAN_14B = (
    "black-forest-labs/FLUX.1-dev",
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "Wan-AI/Wan2.1-T2V-14B-Diffusers",
)
LLADA = "inclusionAI/LLaDA2.0-mini-preview"
CHECKPOINTS = {"flux": FLUX, "wan-1.3b": WAN, "wan-14b": WAN_14B, "llada": LLADA}
TOKENS = 256
PICTURES, WORDS = ["video", "image"], ["text", "dynamo"]
KINDS = PICTURES + WORDS
TEXT: dict[str, Any] = {
    "trust_remote_code": True,  # the checkpoint that we make brings its configuration as code, as LLaDA2's own does
    "max_running_requests": 32,
    "max_total_tokens": 65536,
    "engine_args": {"load_format": "dummy"},
}


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


def application(folder: Path, kinds: list[str], port: int, *, tiny: bool) -> dict[str, Any]:
    """cluster/one-gpu.yaml with our folders in place of the hub's names, which stay what callers ask for."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster" / "one-gpu.yaml").read_text())
    config["http_options"]["port"] = port
    args = config["applications"][0]["args"]
    args["home"] = str(folder / "home")
    args["media"] = {"root": (folder / "media").as_uri()}
    named = {"text": LLADA, "image": FLUX, "video": WAN}
    models = args["models"]
    for kind, hub in named.items():
        models[kind] |= {"model": str(folder / hub), "served_name": hub}
    models["text"] |= TEXT
    # the shapes that are timed, run once before the replica is ready
    models["video"]["warm_up_sizes"] = [[832, 480, 17]]
    if tiny:
        models["image"]["warm_up_sizes"], models["video"]["warm_up_sizes"] = [[128, 128]], [[128, 96, 5]]
    args["models"] |= dict.fromkeys(set(named) - set(kinds))
    return config


def start(folder: Path, state: Path, kinds: list[str], port: int, *, tiny: bool, wait_s: float) -> None:
    """The application on GPU 0; returns when it is ready or time is up."""
    state.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    config = application(folder, [kind for kind in kinds if kind != "dynamo"], port, tiny=tiny)
    app = App(config, state / "app", state / "app.log", gpus="0" if gpu_count() else None)
    _remember(state, "app", app.process.pid)
    waiting = app.wait_ready(wait_s)
    print(f"application after {time.monotonic() - began:.0f} s: {'not ready: ' + str(waiting) if waiting else 'ready'}")


def start_bare(folder: Path, state: Path, kinds: list[str], *, wait_s: float) -> None:
    """Each kind's bare engine on the last GPU, one after another; returns when they have loaded or time is up."""
    state.mkdir(parents=True, exist_ok=True)
    for name in kinds:
        process, began = _start_bare(name, folder, state), time.monotonic()
        _remember(state, name, process.pid)
        while not _loaded(state, name) and process.poll() is None and time.monotonic() - began < wait_s:
            time.sleep(0.5)
        loaded = "loaded" if _loaded(state, name) else "NOT LOADED"
        print(f"bare {name}: {loaded} after {time.monotonic() - began:.0f} s", flush=True)


def time_all(state: Path, port: int, kinds: list[str], *, tiny: bool, rounds: int) -> list[dict[str, Any]]:
    """A row for each work; what fails is told and leaves the others alone. The bare engines end with it."""
    rows: list[Row] = []
    bares: dict[str, Bare] = {}
    for name in kinds:
        try:
            bares[name] = Bare(state / f"{name}.socket", 2)
        except TimeoutError as error:
            print(error)
    base = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=base, timeout=900) as client:
        steps = {
            "image": lambda: time_images(client, bares.get("image"), rows, rounds, tiny=tiny),
            "video": lambda: time_videos(client, bares.get("video"), rows, max(2, rounds - 1), tiny=tiny),
            "text": lambda: time_text(base, client, bares.get("text"), rows),
            "dynamo": lambda: time_dynamo(base, bares["dynamo"], rows),
        }
        for kind in kinds:
            try:
                steps[kind]()
            except Exception as error:  # noqa: BLE001 - one work must not take the others with it
                print(f"{kind} FAILED: {error!r}")
    for bare in bares.values():
        bare.close()
    lines = [row.as_json() for row in rows if row.ours or row.bare]
    gpu = {"gpu": gpu_name()}
    return [line | gpu for line in lines]


def time_images(client: httpx.Client, bare: Bare | None, rows: list[Row], rounds: int, *, tiny: bool) -> None:
    side = 128 if tiny else 1024
    prompt = "A sunset over the ocean"

    def ours(steps: int) -> float:
        nvext = {"num_inference_steps": steps, "seed": 7}
        body = {"model": FLUX, "prompt": prompt, "size": f"{side}x{side}", "response_format": "url", "nvext": nvext}
        return post(client, "/v1/images/generations", body)[0]

    def theirs(steps: int, *, save: bool = True) -> float:
        assert bare is not None
        shape = {"prompt": prompt, "width": side, "height": side, "num_inference_steps": steps, "guidance_scale": 3.5}
        return bare.run(shape | {"seed": 7, "save": save})["seconds"]

    first = Row(f"flux {side}x{side} 15 steps first request after ready", ours=[ours(15)])
    rows.append(first)
    if bare is not None:
        theirs(15)
        theirs(15, save=False)
    for steps in (15, 28):
        row = Row(f"flux {side}x{side} {steps} steps", notes={"clients": 1})
        rows.append(row)
        save = lambda steps=steps: theirs(steps)  # noqa: E731
        plain = lambda steps=steps: theirs(steps, save=False)  # noqa: E731
        in_turns(row, rounds, lambda steps=steps: ours(steps), save if bare else None, plain if bare else None)
    _beside_warm(first, rows[rows.index(first) + 1])


def time_videos(client: httpx.Client, bare: Bare | None, rows: list[Row], rounds: int, *, tiny: bool) -> None:
    width, height, frames, steps = (128, 96, 5, 5) if tiny else (832, 480, 17, 50)
    prompt = "A curious raccoon exploring a garden"

    def ours() -> float:
        nvext = {"fps": 8, "num_frames": frames, "num_inference_steps": steps, "seed": 7}
        body = {"model": WAN, "prompt": prompt, "size": f"{width}x{height}", "response_format": "url", "nvext": nvext}
        seconds, answer = post(client, "/v1/videos", body)
        assert answer["status"] == "completed", answer
        return seconds

    def theirs(*, save: bool = True) -> float:
        assert bare is not None
        shape = {"prompt": prompt, "width": width, "height": height, "num_frames": frames, "fps": 8}
        shape |= {"num_inference_steps": steps, "guidance_scale": 5.0, "seed": 7, "save": save}
        return bare.run(shape)["seconds"]

    name = f"wan-1.3b {width}x{height} {frames} frames {steps} steps"
    first = Row(f"{name} first request after ready", ours=[ours()])
    row = Row(name, notes={"clients": 1})
    rows += [first, row]
    if bare is not None:
        theirs()
        theirs(save=False)
    in_turns(row, rounds, ours, theirs if bare else None, (lambda: theirs(save=False)) if bare else None)
    _beside_warm(first, row)


def _beside_warm(first: Row, warm: Row, *, tokens: int = 0) -> None:
    """The ratio of a first request is to our own later ones; the bare engine's time is that of a later one, too."""
    line = warm.as_json()
    named = {"warm_s": f"ours_{warm.unit}", "bare_s": f"bare_{warm.unit}"}
    times = {name: line[key] for name, key in named.items() if key in line}
    first.notes |= {name: round(tokens / value, 4) if tokens else value for name, value in times.items()}
    first.notes["ratio"] = round(first.ours[0] / first.notes["warm_s"], 4)


CLIENTS = ((1, 5), (8, 3), (32, 2))
"""Clients at once, and the rounds in which both sides take turns."""


def time_text(base: str, client: httpx.Client, bare: Bare | None, rows: list[Row]) -> None:
    body = {"model": LLADA, "prompt": "first", "max_tokens": TOKENS, "nvext": {"ignore_eos": True}}
    first = Row(f"dllm first request after ready, {TOKENS} tokens", ours=[post(client, "/v1/completions", body)[0]])
    rows.append(first)
    if bare is not None:
        _warm_up(bare)
    for clients, rounds in CLIENTS:
        row = Row(f"dllm {clients} clients, {TOKENS} tokens each", unit="tok_s", notes={"clients": clients})
        rows.append(row)
        for i in range(rounds):
            row.ours.append(tokens_per_second(base, LLADA, prompts(clients, f"ours {i}"), TOKENS))
            if bare is not None:
                row.bare.append(_bare_tokens_per_second(bare, clients, f"bare {i}"))
    _beside_warm(first, rows[rows.index(first) + 1], tokens=TOKENS)


def time_dynamo(base: str, dynamo: Bare, rows: list[Row]) -> None:
    _warm_up(dynamo)
    for clients, rounds in CLIENTS:
        row = Row(f"dllm {clients} clients against Dynamo's settings", unit="tok_s", notes={"clients": clients})
        rows.append(row)
        for i in range(rounds - 1):
            row.ours.append(tokens_per_second(base, LLADA, prompts(clients, f"again {i}"), TOKENS))
            row.other.append(_bare_tokens_per_second(dynamo, clients, f"dynamo {i}"))


def _bare_tokens_per_second(engine: Bare, clients: int, salt: str) -> float:
    answer = engine.run({"prompts": prompts(clients, salt), "tokens": TOKENS})
    return answer["tokens"] / answer["seconds"]


def _warm_up(engine: Bare) -> None:
    """Every number of requests that is timed, as our own replica has warmed up its engine."""
    for clients, _ in CLIENTS:
        engine.run({"prompts": prompts(clients, "warm"), "tokens": 64})


def stop(state: Path) -> None:
    """Ends what `start` started, and says what would not end by itself."""
    files = list(state.glob("*.pid"))
    pids = {path.stem: int(path.read_text()) for path in files}
    below = {pid: descendants(pid) for pid in pids.values()}
    for pid in pids.values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + 40
    while any(lives(pid) for pid in pids.values()) and time.monotonic() < deadline:
        time.sleep(0.5)
    for pid, children in below.items():
        left = [each for each in (*children, pid) if lives(each)]
        if left:
            print("killed what did not end:", left)
        for each in left:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
    for file in files:
        file.unlink()


def time_two_gpus(
    folder: Path, state: Path, port: int, *, tiny: bool, steps: int, which: list[str]
) -> list[dict[str, Any]]:
    """Wan 14B through our deployment with each way of splitting one generation over two GPUs."""
    state.mkdir(parents=True, exist_ok=True)
    width, height, frames = (128, 96, 5) if tiny else (832, 480, 17)
    lines: list[dict[str, Any]] = []
    for parallel in which:
        config = application(folder, ["video"], port, tiny=tiny)
        video = config["applications"][0]["args"]["models"]["video"]
        video |= {"model": str(folder / WAN_14B), "served_name": WAN_14B, "gpus": 2, "parallel": parallel}
        video["warm_up_sizes"] = [[width, height, frames]]
        began = time.monotonic()
        app = App(config, state / parallel, state / f"{parallel}.log")
        try:
            if waiting := app.wait_ready(260):
                print(f"wan-14b {parallel}: not ready after {time.monotonic() - began:.0f} s: {waiting}")
                continue
            row = Row(f"wan-14b {width}x{height} {frames} frames {steps} steps {parallel}", notes={"gpus": 2})
            row.notes["ready_after_s"] = round(time.monotonic() - began, 1)
            nvext = {"fps": 8, "num_frames": frames, "num_inference_steps": steps, "seed": 7}
            body = {"model": WAN_14B, "prompt": "a fox", "size": f"{width}x{height}", "nvext": nvext}
            with httpx.Client(base_url=app.base, timeout=600) as client:
                for i in range(3):
                    seconds, answer = post(client, "/v1/videos", body)
                    if i:
                        row.ours.append(seconds)
                    row.notes["inference_time_s"] = answer.get("inference_time_s")
            lines.append(row.as_json() | {"gpu": gpu_name()})
            print(json.dumps(lines[-1]), flush=True)
        except Exception as error:  # noqa: BLE001 - the other ways are still measured
            print(f"wan-14b {parallel} FAILED: {error!r}")
        finally:
            print("killed what did not end:", app.stop())
    return lines


def gpu_count() -> int:
    import torch

    return torch.cuda.device_count()


def gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"


def _start_bare(name: str, folder: Path, state: Path) -> subprocess.Popen[bytes]:
    kind = "text" if name == "dynamo" else name
    model = folder / {"text": LLADA, "image": FLUX, "video": WAN}[kind]
    (state / f"{name}.socket").unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu.bare", kind, str(model), str(state / f"{name}.socket")]
    if kind == "text":
        # the same fraction as the application's: what is free on a shared GPU, and the cap on the cache, are alike
        command += ["--settings", json.dumps(TEXT | {"gpus": 0.3})]
    if name == "dynamo":
        command.append("--dynamo")
    env = os.environ | ({"CUDA_VISIBLE_DEVICES": str(gpu_count() - 1)} if gpu_count() else {})
    with (state / f"bare-{name}.log").open("w") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def _remember(state: Path, name: str, pid: int) -> None:
    """For `stop`; two commands may run at once, so each process has a file of its own."""
    (state / f"{name}.pid").write_text(str(pid))


def _loaded(state: Path, name: str) -> bool:
    return "loaded in" in (state / f"bare-{name}.log").read_text(errors="replace")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["all", "models", "start", "bare", "time", "stop", "two-gpus"])
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="for checkpoints and media")
    parser.add_argument("--state", type=Path, default=Path("/tmp/benchmarks-gpu"), help="for logs and sockets")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "h200.jsonl")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--only", nargs="+", default=list(CHECKPOINTS), help="checkpoints to make")
    parser.add_argument("--parallel", nargs="+", default=["tensor", "cfg"])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20, help="of the 14B model")
    parser.add_argument("--wait", type=float, default=420.0, help="seconds for everything to load")
    parser.add_argument("--tiny", action="store_true", help="small checkpoints and shapes: to try the script itself")
    args = parser.parse_args()
    every, lines = args.what == "all", list[dict[str, Any]]()
    if every or args.what == "models":
        make_models(args.folder, tiny=args.tiny, only=args.only)
    if args.what == "start":
        start(args.folder, args.state, args.kinds, args.port, tiny=args.tiny, wait_s=args.wait)
    if args.what == "bare":
        start_bare(args.folder, args.state, args.kinds, wait_s=args.wait)
    if args.what == "time":
        lines += time_all(args.state, args.port, args.kinds, tiny=args.tiny, rounds=args.rounds)
    for together in [PICTURES, WORDS] if gpu_count() == 1 else [KINDS]:
        if every and (kinds := [kind for kind in together if kind in args.kinds]):
            start(args.folder, args.state, kinds, args.port, tiny=args.tiny, wait_s=args.wait)
            for kind in kinds:
                start_bare(args.folder, args.state, [kind], wait_s=args.wait)
                lines += time_all(args.state, args.port, [kind], tiny=args.tiny, rounds=args.rounds)
            stop(args.state)
    if args.what == "stop":
        stop(args.state)
    if args.what == "two-gpus" or (every and gpu_count() >= 2):
        lines += time_two_gpus(
            args.folder, args.state, args.port, tiny=args.tiny, steps=args.steps, which=args.parallel
        )
    if lines:
        args.results.parent.mkdir(parents=True, exist_ok=True)
        with args.results.open("a") as results:
            results.write(dump(lines))
        print(table(lines))


if __name__ == "__main__":
    main()
