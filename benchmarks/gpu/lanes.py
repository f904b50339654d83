"""What is measured of each kind: our application over HTTP and the bare engine on the same GPUs, in turns.

A lane has its GPUs, its port and its logs to itself, so that two lanes can run at once on two GPUs. Each row is written
when it is there: what comes later may fail.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import httpx
import yaml

from benchmarks.gpu.app import ROOT, App
from benchmarks.gpu.bare import Bare
from benchmarks.gpu.measure import Body, Row, ask, difference, give_up, in_turns, post, text_speed
from serve_app.engines.parallel import sglang_arguments
from serve_app.model_settings import ImageSettings, VideoSettings
from serve_app.profiles import PROFILES

FLUX, WAN, WAN_14B = (
    "black-forest-labs/FLUX.1-dev",
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "Wan-AI/Wan2.1-T2V-14B-Diffusers",
)
LLADA = "inclusionAI/LLaDA2.0-mini-preview"
CHECKPOINTS = {"flux": FLUX, "wan-1.3b": WAN, "wan-14b": WAN_14B, "llada": LLADA}
NAMES = {"text": LLADA, "image": FLUX, "video": WAN}
TOKENS = 256
LENGTHS = "128 to 384 tokens"
"""Of the requests in a row, TOKENS on average."""
TEXT: dict[str, Any] = {
    "trust_remote_code": True,  # the checkpoint that we make brings its configuration as code, as LLaDA2's own does
    "max_running_requests": 128,
    "max_total_tokens": 131072,
    "engine_args": {"load_format": "dummy"},
}
SHIPPED = {kind: PROFILES["gpu"]["models"][kind]["quality"] for kind in ("image", "video")}
ULTRA: Body = {"method": "cache_dit", "scm_preset": "ultra", "scm_policy": "static"}
PRESETS: dict[str, dict[str, Body]] = {
    kind: {name: SHIPPED[kind][name]["step_caching"] for name in ("medium", "low")} | {"standard": ULTRA}
    for kind in SHIPPED
}
"""The presets that cache steps, by the word of `quality` that callers send."""
CALLED = {"medium": "balanced", "low": "fast", "standard": "ultra"}
READY_S = 420.0


@dataclass
class Lane:
    """Where it runs. `gpus` is a list as of CUDA_VISIBLE_DEVICES."""

    name: str
    folder: Path
    state: Path
    results: Path
    gpus: str
    port: int
    tiny: bool = False
    rounds: int = 3
    lock: Path | None = None
    """Held while texts are measured, so that another lane on this GPU can run before or after: see `alone`."""
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.state / "home"

    def write(self, row: Row) -> None:
        line = row.as_json()
        self.rows.append(line)
        with self.results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        shown = {key: value for key, value in line.items() if key not in ("versions", "date", "card")}
        print(json.dumps(shown), flush=True)

    def config(self, models: dict[str, Body]) -> Body:
        """cluster/one-gpu.yaml with our folders in place of the hub's names, which stay what callers ask for."""
        config: Body = yaml.safe_load((ROOT / "cluster" / "one-gpu.yaml").read_text())
        config["http_options"]["port"] = self.port
        args = config["applications"][0]["args"]
        args["home"] = str(self.home)
        args["media"] = {"root": (self.state / "media").as_uri()}
        for kind, hub in NAMES.items():
            args["models"][kind] |= {"model": str(self.folder / hub), "served_name": hub}
        args["models"] = {kind: args["models"][kind] | model for kind, model in models.items()} | dict.fromkeys(
            set(NAMES) - set(models)
        )
        return config

    @contextmanager
    def alone(self) -> Generator[None]:
        """Waits until no other lane holds the lock, then holds it for the block."""
        if self.lock is None:
            yield
            return
        began = time.monotonic()
        with self.lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            print(f"alone after {time.monotonic() - began:.0f} s", flush=True)
            yield

    @contextmanager
    def app(self, name: str, models: dict[str, Body], *, row: Row | None = None) -> Generator[App]:
        """`serve run` until it is ready; `row` takes the seconds that took. It ends with the block."""
        began = time.monotonic()
        app = App(self.config(models), self.state / name, self.state / f"{name}.log", gpus=self.gpus or None)
        try:
            if waiting := app.wait_ready(READY_S):
                raise RuntimeError(f"{name}: not ready after {time.monotonic() - began:.0f} s: {waiting}")
            print(f"{name}: ready after {time.monotonic() - began:.1f} s", flush=True)
            if row is not None:
                row.ours.append(time.monotonic() - began)
                self.write(row)
            yield app
        finally:
            if left := app.stop():
                print(f"{name}: killed what did not end: {left}", flush=True)

    @contextmanager
    def bare(self, name: str, kind: str, model: Path, *more: str) -> Generator[Bare]:
        """The bare engine in its own process, which ends with the block."""
        socket = self.state / f"{name}.socket"
        socket.unlink(missing_ok=True)
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.bare", kind, str(model), str(socket)]
        command += ["--home", str(self.home), *more]
        env = os.environ | ({"CUDA_VISIBLE_DEVICES": self.gpus} if self.gpus else {})
        began = time.monotonic()
        with (self.state / f"{name}.log").open("w") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            while not socket.exists() and process.poll() is None and time.monotonic() - began < READY_S:
                time.sleep(0.2)
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode} while it loaded")
            print(f"{name}: loaded after {time.monotonic() - began:.1f} s", flush=True)
            bare = Bare(socket, 10)
            yield bare
            bare.close()
            process.wait(30)
        finally:
            if process.poll() is None:
                process.kill()

    def client(self, app: App) -> httpx.Client:
        return httpx.Client(base_url=app.base, timeout=900)


# --- images -----------------------------------------------------------------------------------------------------------


def image_body(side: int, steps: int, *, seed: int = 7, **more: Any) -> Body:
    nvext = {"num_inference_steps": steps, "seed": seed}
    size = f"{side}x{side}"
    return {"model": FLUX, "prompt": "A sunset over the ocean", "size": size, "nvext": nvext, **more}


def bare_image(side: int, steps: int) -> Body:
    shape = {"prompt": "A sunset over the ocean", "width": side, "height": side, "num_inference_steps": steps}
    return shape | {"guidance_scale": 3.5, "seed": 7}


def measure_images(lane: Lane) -> None:
    side, counts, most = (128, (4, 8), 8) if lane.tiny else (1024, (28, 50), 50)
    models = {"image": {"gpus": 0.5, "quality": presets("image"), "warm_up_sizes": [[side, side]]}}
    work = f"flux {side}x{side}"

    with ExitStack() as stack:
        app = stack.enter_context(lane.app("image-cold", models, row=Row("flux start to ready, cold")))
        client = stack.enter_context(lane.client(app))

        def ours(steps: int, **more: Any) -> float:
            return post(client, PATHS["image"], image_body(side, steps, response_format="url", **more))[0]

        lane.write(Row(f"{work} {counts[0]} steps, first request after ready", ours=[ours(counts[0])]))
        exact: list[float] = []
        with lane.bare("bare-image", "image", lane.folder / FLUX) as bare:

            def theirs(steps: int, **more: Any) -> float:
                return bare.run(bare_image(side, steps) | more)["seconds"]

            theirs(counts[0])
            theirs(counts[0])
            for steps in counts:
                row = Row(f"{work} {steps} steps")
                in_turns(row, lane.rounds, lambda steps=steps: ours(steps), lambda steps=steps: theirs(steps))
                lane.write(row)
                exact = row.ours
        time_presets(lane, "image", f"{work} {most} steps", lambda quality: ours(most, quality=quality), exact)
        compare_presets(lane, client, f"{work} {most} steps, random weights", side, most)
        cancel_images(lane, client, work, ours, side)
    with lane.app("image-warm", models, row=Row("flux start to ready, warm")) as app, lane.client(app) as client:
        body = image_body(side, counts[0], response_format="url")
        lane.write(
            Row(f"{work} {counts[0]} steps, first after a warm start", ours=[post(client, PATHS["image"], body)[0]])
        )


PATHS = {"image": "/v1/images/generations", "video": "/v1/videos"}


def presets(kind: str) -> Body:
    return {name: {"step_caching": caching} for name, caching in PRESETS[kind].items()}


def time_presets(lane: Lane, kind: str, work: str, ours: Any, exact: list[float]) -> None:
    """Beside our own exact ones of the same run. The first of a preset also mounts its cache."""
    for name in PRESETS[kind]:
        row = Row(work, CALLED[name], notes={"first_s": round(ours(name), 4)})
        row.ours = [ours(name) for _ in range(max(2, lane.rounds - 1))]
        row.notes |= {"exact_s": statistics.median(exact)}
        row.notes["of_exact"] = round(statistics.median(row.ours) / row.notes["exact_s"], 4)
        row.notes["settings"] = PRESETS[kind][name]
        lane.write(row)


def compare_presets(lane: Lane, client: httpx.Client, work: str, side: int, steps: int, **more: Any) -> None:
    """How far each preset's picture is from the exact one of its seed; two seeds."""

    def draw(quality: str | None, seed: int) -> bytes:
        chosen = {"quality": quality} if quality else {}
        body = image_body(side, steps, seed=seed, response_format="b64_json", **chosen) | more
        return base64.b64decode(post(client, PATHS["image"], body)[1]["data"][0]["b64_json"])

    exact = {seed: draw(None, seed) for seed in (7, 8)}
    pictures = {f"exact-{seed}": data for seed, data in exact.items()}
    again = draw(None, 7)
    row = Row(work, notes={"again": difference(exact[7], again), "other_seed": difference(exact[7], exact[8])})
    lane.write(row)
    for name in PRESETS["image"]:
        drawn = {seed: draw(name, seed) for seed in exact}
        pictures |= {f"{CALLED[name]}-{seed}": data for seed, data in drawn.items()}
        away = [difference(exact[seed], drawn[seed]) for seed in exact]
        lane.write(Row(work, CALLED[name], notes={"to_exact": away}))
    folder = lane.state / "pictures"
    folder.mkdir(exist_ok=True)
    for name, data in pictures.items():
        (folder / f"{lane.name}-{re.sub('[ ,]+', '-', work)}-{name}.png").write_bytes(data)


def cancel_images(lane: Lane, client: httpx.Client, work: str, ours: Any, side: int) -> None:
    """How much longer a short request takes when a long one before it was given up: the time until the GPU is free."""
    short = 4
    usual = statistics.median(ours(short) for _ in range(3))
    row = Row(f"{work}, GPU free after a cancel", notes={"usual_s": round(usual, 3), "given_up_steps": 100})
    for i in range(6):
        give_up(client, PATHS["image"], image_body(side, 100), after_s=1.0 + 0.37 * i)
        row.ours.append(max(0.0, ours(short) - usual))
    row.notes["longest_s"] = round(max(row.ours), 3)
    lane.write(row)


def measure_demo(lane: Lane, checkpoint: Path) -> None:
    """The presets on a model that was trained: the project's small FLUX, whose pictures can be looked at."""
    model: Body = {"gpus": 0.1, "model": str(checkpoint), "quality": presets("image"), "warm_up_sizes": [[256, 256]]}
    model |= {"defaults": {"width": 256, "height": 256, "guidance_scale": 2.0}}
    prompts = (
        "a sunset over the ocean",
        "a red castle",
        "an apple and a banana on a table",
        "a rocket in space at night",
    )
    with lane.app("demo", {"image": model}) as app, lane.client(app) as client:
        for steps in (28, 50):
            for prompt in prompts:
                work = f"trained demo model 256x256 {steps} steps, {prompt}"
                compare_presets(lane, client, work, 256, steps, prompt=prompt)


EXACT = "flux-exact.png"
"""What `fp8` is compared with: `starts` and `presets` draw it."""


def measure_presets(lane: Lane) -> None:
    """What `quality` saves, by our own application alone; the exact picture is kept for `fp8`."""
    side, counts = (128, (4, 8)) if lane.tiny else (1024, (28, 50))
    model: Body = {"gpus": 0.5, "quality": presets("image"), "warm_up_sizes": [[side, side]]}
    with lane.app("image-presets", {"image": model}) as app, lane.client(app) as client:
        for steps in counts:

            def ours(quality: str | None = None, steps: int = steps) -> float:
                chosen: Body = {"quality": quality} if quality else {}
                return post(client, PATHS["image"], image_body(side, steps, response_format="url", **chosen))[0]

            exact = [ours() for _ in range(lane.rounds)]
            time_presets(lane, "image", f"flux {side}x{side} {steps} steps", ours, exact)
        body = image_body(side, counts[-1], response_format="b64_json")
        drawn = post(client, PATHS["image"], body)[1]["data"][0]["b64_json"]
        (lane.folder / EXACT).write_bytes(base64.b64decode(drawn))


def measure_starts(lane: Lane) -> None:
    """FLUX, then Wan 1.3B, each alone: the first start of a new home compiles, the second does not."""
    side, steps = (128, 4) if lane.tiny else (1024, 28)
    shape, count = ((128, 96, 5), 8) if lane.tiny else ((832, 480, 17), 50)
    image: Body = {"gpus": 1, "quality": presets("image"), "warm_up_sizes": [[side, side]]}
    video: Body = {"gpus": 1, "quality": presets("video"), "warm_up_sizes": [list(shape)]}
    for name in ("cold", "warm"):
        row = Row(f"flux start to ready, {name}")
        with lane.app(f"image-{name}", {"image": image}, row=row) as app, lane.client(app) as client:
            body = image_body(side, steps, response_format="url")
            first = post(client, PATHS["image"], body)[0]
            lane.write(Row(f"flux {side}x{side} {steps} steps, first after a {name} start", ours=[first]))
            body = image_body(side, 2 * steps if lane.tiny else 50, response_format="b64_json")
            drawn = post(client, PATHS["image"], body)[1]["data"][0]["b64_json"]
            (lane.folder / EXACT).write_bytes(base64.b64decode(drawn))
    for name in ("cold", "warm"):
        row = Row(f"wan-1.3b start to ready, {name}")
        with lane.app(f"video-{name}", {"video": video}, row=row) as app, lane.client(app) as client:
            work = f"wan-1.3b {shape[0]}x{shape[1]}, {shape[2]} frames, {count} steps, first after a {name} start"
            lane.write(Row(work, ours=[make_video(client, video_body(WAN, shape, count))]))


def measure_adapters(lane: Lane) -> None:
    """How much longer the first request takes that asks for another adapter than the one before."""
    from diffusers import FluxTransformer2DModel
    from torch import device

    from tests.engines.diffusers.adapters import write_adapter

    side, steps = (128, 4) if lane.tiny else (1024, 8)
    config: Any = FluxTransformer2DModel.load_config(lane.folder / FLUX / "transformer")
    with device("meta"):
        shapes = FluxTransformer2DModel.from_config(config)
    files = {name: write_adapter(lane.state / f"{name}.safetensors", shapes, seed) for seed, name in enumerate("ab")}
    adapters = {name: {"path": str(path)} for name, path in files.items()}
    with lane.app("image-adapters", {"image": {"adapters": adapters, "warm_up_sizes": [[side, side]]}}) as app:
        for wanted in ((), ("a",), ("b",), ("a", "b"), (), ("b",)):
            body = image_body(side, steps, response_format="url")
            if wanted:
                body["nvext"]["adapters"] = [{"name": name, "scale": 1.0} for name in wanted]
            with lane.client(app) as client:
                first, *usual = [post(client, PATHS["image"], body)[0] for _ in range(4)]
            row = Row(f"flux {side}x{side} {steps} steps, adapters {'+'.join(wanted) or 'none'}", ours=usual)
            row.notes = {"first_s": round(first, 4), "switch_s": round(first - statistics.median(usual), 4)}
            lane.write(row)


def measure_fp8(lane: Lane) -> None:
    side, steps = (128, 8) if lane.tiny else (1024, 50)
    model: Body = {"gpus": 0.5, "warm_up_sizes": [[side, side]], "engine_args": {"quantization": "fp8"}}
    model["quality"] = {"low": {"step_caching": PRESETS["image"]["low"]}}
    variants: dict[str, Body] = {"fp8": {}, "fp8, fast": {"quality": "low"}}
    with lane.app("image-fp8", {"image": model}) as app, lane.client(app) as client:
        for preset, more in variants.items():
            row = Row(f"flux {side}x{side} {steps} steps", preset, notes={"gpu_memory": memory(lane.gpus)})
            for _ in range(lane.rounds):
                row.ours.append(post(client, PATHS["image"], image_body(side, steps, response_format="url", **more))[0])
            row.ours = row.ours[1:]
            lane.write(row)
        body = image_body(side, steps, response_format="b64_json")
        data = base64.b64decode(post(client, PATHS["image"], body)[1]["data"][0]["b64_json"])
        if (exact := lane.folder / EXACT).exists():
            notes = {"to_exact": [difference(exact.read_bytes(), data)]}
            lane.write(Row(f"flux {side}x{side} {steps} steps, random weights", "fp8", notes=notes))


def measure_batches(lane: Lane) -> None:
    """The bare engine alone: 8 images by 1, 2 and 4 at once. Our own sends one at a time."""
    arguments = json.dumps({"batching_max_size": 4, "batching_delay_ms": 30.0})
    with lane.bare("bare-batches", "image", lane.folder / FLUX, "--arguments", arguments) as bare:
        for side, steps in ((64, 4), (128, 4)) if lane.tiny else ((512, 28), (1024, 8)):
            shape = {"prompt": "A sunset over the ocean", "width": side, "height": side, "num_inference_steps": steps}
            for together in (1, 2, 4):
                bare.run(shape | {"together": together, "count": together})
                answer = bare.run(shape | {"together": together, "count": 8, "alone": True})
                notes = {"together": together, "away_of_255": answer["away"], "gpu_memory": memory(lane.gpus)}
                lane.write(
                    Row(f"flux {side}x{side} {steps} steps, 8 images, bare", bare=[answer["seconds"]], notes=notes)
                )


# --- videos -----------------------------------------------------------------------------------------------------------


def video_body(model: str, shape: tuple[int, int, int], steps: int, **more: Any) -> Body:
    width, height, frames = shape
    nvext = {"fps": 8, "num_frames": frames, "num_inference_steps": steps, "seed": 7}
    prompt = "A curious raccoon exploring a garden"
    return {"model": model, "prompt": prompt, "size": f"{width}x{height}", "nvext": nvext, **more}


def make_video(client: httpx.Client, body: Body) -> float:
    seconds, answer = post(client, PATHS["video"], body | {"response_format": "url"})
    if answer["status"] != "completed":
        raise RuntimeError(f"the video is {answer}")
    return seconds


def bare_video(bare: Bare, shape: tuple[int, int, int], steps: int) -> float:
    width, height, frames = shape
    asked = {"prompt": "A curious raccoon exploring a garden", "width": width, "height": height, "num_frames": frames}
    return bare.run(asked | {"fps": 8, "num_inference_steps": steps, "guidance_scale": 5.0, "seed": 7})["seconds"]


def measure_videos(lane: Lane) -> None:
    shape, steps = ((128, 96, 5), 8) if lane.tiny else ((832, 480, 17), 50)
    models = {"video": {"gpus": 0.5, "quality": presets("video"), "warm_up_sizes": [list(shape)]}}
    work = f"wan-1.3b {shape[0]}x{shape[1]}, {shape[2]} frames, {steps} steps"
    with ExitStack() as stack:
        app = stack.enter_context(lane.app("video-cold", models, row=Row("wan-1.3b start to ready, cold")))
        client = stack.enter_context(lane.client(app))

        def ours(steps: int = steps, **more: Any) -> float:
            return make_video(client, video_body(WAN, shape, steps, **more))

        lane.write(Row(f"{work}, first request after ready", ours=[ours()]))
        with lane.bare("bare-video", "video", lane.folder / WAN) as bare:
            bare_video(bare, shape, steps)
            row = Row(work)
            in_turns(row, lane.rounds, ours, lambda: bare_video(bare, shape, steps))
            lane.write(row)
        time_presets(lane, "video", work, lambda quality: ours(quality=quality), row.ours)
        usual = statistics.median(ours(4) for _ in range(2))
        row = Row(f"{work}, GPU free after a cancel", notes={"usual_s": round(usual, 3), "given_up_steps": 100})
        for i in range(5):
            body = video_body(WAN, shape, 100)
            job = client.post(PATHS["video"], json=body, headers={"Prefer": "respond-async"}).json()["id"]
            time.sleep(1.5 + 0.37 * i)
            asked = time.monotonic()
            client.post(f"{PATHS['video']}/{job}/cancel").raise_for_status()
            ours(4)
            row.ours.append(max(0.0, time.monotonic() - asked - usual))
        row.notes["longest_s"] = round(max(row.ours), 3)
        lane.write(row)
    with lane.app("video-warm", models, row=Row("wan-1.3b start to ready, warm")) as app, lane.client(app) as client:
        lane.write(Row(f"{work}, first after a warm start", ours=[make_video(client, video_body(WAN, shape, steps))]))


# --- text -------------------------------------------------------------------------------------------------------------

CLIENTS = ((1, 5), (8, 5), (128, 2), (32, 2), (64, 2))
"""Clients at once, and the rounds in which both sides take turns."""
EACH = 2
"""Requests of each client in a round, one after another; 4 of one client alone."""


def measure_texts(lane: Lane) -> None:
    settings = TEXT | {"gpus": 0.4}
    with ExitStack() as stack:
        app = stack.enter_context(lane.app("text-cold", {"text": settings}, row=Row("llada start to ready, cold")))
        client = stack.enter_context(lane.client(app))
        body = {"model": LLADA, "prompt": "first", "max_tokens": TOKENS, "nvext": {"ignore_eos": True}}
        lane.write(Row(f"llada {TOKENS} tokens, first after ready", ours=[post(client, "/v1/completions", body)[0]]))
        more = ("--settings", json.dumps(settings))
        with lane.bare("bare-text", "text", lane.folder / LLADA, *more) as bare:
            for clients, _ in CLIENTS:  # as our own replica has warmed up its engine
                bare.run({"asked": ask(clients, "warm", 64), "clients": clients})
            with lane.alone():
                for clients, rounds in CLIENTS:
                    time_clients(lane, app.base, bare, clients, rounds)
        share_a_prefix(lane, app.base)
    with lane.app("text-warm", {"text": settings}, row=Row("llada start to ready, warm")):
        pass


def time_clients(lane: Lane, base: str, bare: Bare, clients: int, rounds: int) -> None:
    """In a round both are asked for the same texts: a text says which experts its steps read, and so their time."""
    count = clients * (EACH if clients > 1 else 2 * EACH)
    for stream in (False, True):
        how = "streamed" if stream else "whole"
        row = Row(f"llada {clients} clients, {LENGTHS}, {how}", unit="tok_s", notes={"clients": clients})
        firsts: dict[str, list[float]] = {"ours": [], "bare": []}

        def ours(*, stream: bool = stream, how: str = how, row: Row = row, firsts: Any = firsts) -> float:
            asked = ask(count, f"{clients} {how} {len(row.ours)}", TOKENS)
            speed = text_speed(base, LLADA, asked, clients=clients, stream=stream)
            firsts["ours"].append(speed.first_s)
            return speed.tokens_per_s

        def theirs(*, stream: bool = stream, how: str = how, row: Row = row, firsts: Any = firsts) -> float:
            asked = ask(count, f"{clients} {how} {len(row.bare)}", TOKENS)
            answer = bare.run({"asked": asked, "clients": clients, "stream": stream})
            firsts["bare"].append(answer["first_s"])
            return answer["tokens_per_s"]

        in_turns(row, rounds, ours, theirs)
        row.notes["first_s"] = {who: round(statistics.median(found), 4) for who, found in firsts.items()}
        lane.write(row)


def share_a_prefix(lane: Lane, base: str) -> None:
    """32 prompts of 1,000 tokens (the tokenizer knows bytes alone) that share their beginning or do not; one block."""
    for shared in (False, True, False, True):
        start = "One long tale of boats and harbours. " * 27
        asked = [f"{'' if shared else i}{start}"[:996] + f" {i:03}" for i in range(32)]
        if not shared:
            asked = [f"{time.monotonic_ns()} {prompt}"[:1000] for prompt in asked]
        started = time.monotonic()
        text_speed(base, LLADA, [(prompt, 32) for prompt in asked], clients=len(asked), spread_s=0)
        name = "shared" if shared else "of its own"
        lane.write(
            Row(f"llada 32 clients, prompts of 1,000 tokens, beginning {name}", ours=[time.monotonic() - started])
        )


def vary_texts(lane: Lane) -> None:
    """Other numbers of running requests, and fp8."""
    fp8 = {"engine_args": TEXT["engine_args"] | {"quantization": "fp8"}}
    for name, changes in {"32": {"max_running_requests": 32}, "64": {"max_running_requests": 64}, "fp8": fp8}.items():
        try:
            with lane.app(f"text-{name}", {"text": TEXT | {"gpus": 0.4} | changes}) as app:
                for clients in (1, 32, 128) if name == "fp8" else (32, 64, 128):
                    row = Row(f"llada {clients} clients, {LENGTHS}, whole", unit="tok_s")
                    row.preset = "fp8" if name == "fp8" else "exact"
                    row.notes = {"clients": clients, "gpu_memory": memory(lane.gpus)}
                    row.notes["max_running_requests"] = 128 if name == "fp8" else int(name)
                    for i in range(2):
                        asked = ask(EACH * clients, f"{name} {i}", TOKENS)
                        row.ours.append(text_speed(app.base, LLADA, asked, clients=clients).tokens_per_s)
                    lane.write(row)
        except RuntimeError as error:
            print(f"text {name} FAILED: {error!r}", flush=True)


def measure_dynamo(lane: Lane) -> None:
    """The bare text engine as Dynamo's launch script starts it, beside ours."""
    settings = TEXT | {"gpus": 0.4}
    with ExitStack() as stack:
        app = stack.enter_context(lane.app("text-dynamo", {"text": settings}))
        more = ("--settings", json.dumps(settings), "--dynamo")
        bare = stack.enter_context(lane.bare("bare-dynamo", "text", lane.folder / LLADA, *more))
        for clients, _ in CLIENTS[:3]:
            bare.run({"asked": ask(clients, "warm", 64), "clients": clients})
        for clients, _ in CLIENTS[:3]:
            row = Row(f"llada {clients} clients, {LENGTHS}, bare as Dynamo starts it", unit="tok_s")
            row.notes["clients"] = clients
            for i in range(2):
                asked = ask(EACH * clients, f"again {i}", TOKENS)
                row.ours.append(text_speed(app.base, LLADA, asked, clients=clients).tokens_per_s)
                asked = ask(EACH * clients, f"dynamo {i}", TOKENS)
                row.bare.append(bare.run({"asked": asked, "clients": clients})["tokens_per_s"])
            lane.write(row)


# --- two GPUs ---------------------------------------------------------------------------------------------------------


def measure_two(lane: Lane, which: list[str], *, steps: int, flux: bool) -> None:
    """Wan 14B, and FLUX, with each way of splitting one generation, one after another, beside the bare engine."""
    shape, side = ((128, 96, 5), 128) if lane.tiny else ((832, 480, 17), 1024)
    works = [(parallel, "video") for parallel in which]
    works += [(parallel, "image") for parallel in which if flux and parallel != "cfg"]
    for i, (parallel, kind) in enumerate(works):
        own = replace(lane, port=lane.port + i)
        try:
            if kind == "video":
                _split_video(own, parallel, shape, steps)
            else:
                _split_image(own, parallel, side)
        except Exception as error:  # noqa: BLE001 - the other ways are still measured
            print(f"{kind} {parallel} FAILED: {error!r}", flush=True)


def _split_video(lane: Lane, parallel: str, shape: tuple[int, int, int], steps: int) -> None:
    model: Body = {"model": str(lane.folder / WAN_14B), "served_name": WAN_14B, "warm_up_sizes": [list(shape)]}
    with _both(lane, "video", WAN_14B, parallel, model) as (client, bare):
        body = video_body(WAN_14B, shape, steps)
        make_video(client, body)
        bare_video(bare, shape, steps)
        row = Row(f"wan-14b {shape[0]}x{shape[1]}, {shape[2]} frames, {steps} steps", gpus=2, parallel=parallel)
        in_turns(row, 2, lambda: make_video(client, body), lambda: bare_video(bare, shape, steps))
        lane.write(row)


def _split_image(lane: Lane, parallel: str, side: int) -> None:
    with _both(lane, "image", FLUX, parallel, {"warm_up_sizes": [[side, side]]}) as (client, bare):
        body, shape = image_body(side, 50, response_format="url"), bare_image(side, 50)
        post(client, PATHS["image"], body)
        bare.run(shape)
        row = Row(f"flux {side}x{side} 50 steps", gpus=2, parallel=parallel)
        in_turns(row, 2, lambda: post(client, PATHS["image"], body)[0], lambda: bare.run(shape)["seconds"])
        lane.write(row)


@contextmanager
def _both(
    lane: Lane, kind: Literal["image", "video"], hub: str, parallel: str, model: Body
) -> Generator[tuple[httpx.Client, Bare]]:
    """The application and the bare engine on both GPUs, split the same way; they load at the same time."""
    split: Body = {"gpus": 2, "parallel": parallel}
    if parallel == "ulysses":
        split = {"gpus": 2, "parallel": "sequence", "engine_args": {"ulysses_degree": 2, "ring_degree": 1}}
    settings = (VideoSettings if kind == "video" else ImageSettings).model_validate(split | {"model": hub})
    arguments = sglang_arguments(settings) | split.get("engine_args", {})
    row = Row(f"{hub} {parallel} start to ready, while the bare engine loads", gpus=2, parallel=parallel)
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        name, model_folder = f"bare-two-{kind}-{parallel}", lane.folder / hub
        engine = lane.bare(name, kind, model_folder, "--arguments", json.dumps(arguments))
        bare = pool.submit(stack.enter_context, engine)  # the application sets signals, which threads cannot
        app = stack.enter_context(lane.app(f"two-{kind}-{parallel}", {kind: model | split}, row=row))
        yield stack.enter_context(lane.client(app)), bare.result()


def memory(gpus: str) -> list[str]:
    """MiB that each process has on these GPUs, as nvidia-smi tells."""
    query = ["nvidia-smi", "--query-compute-apps=process_name,used_memory", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run([*query, *(["-i", gpus] if gpus else [])], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in found.stdout.splitlines() if line.strip()]
