"""FLUX: beside the bare engine, given up, with adapters, in fp8, and in batches."""

from __future__ import annotations

import json
import statistics
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import httpx

from benchmarks.gpu.asked import PATHS, bare_image, draw_image, image_body
from benchmarks.gpu.lane import FLUX, Lane, memory
from benchmarks.gpu.measure import Body, Row, difference, give_up, in_turns, post
from benchmarks.gpu.presets import EXACT, PRESETS, compare_presets, presets, time_presets


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


def measure_graphs(lane: Lane) -> None:
    """Kernels launched by Python, then by CUDA graphs, which exclude step caching: our own application by itself."""
    works = ((64, 4), (128, 8)) if lane.tiny else ((512, 28), (1024, 50))
    model: Body = {"gpus": 0.5, "quality": dict.fromkeys(PRESETS["image"]), "warm_up_sizes": [[s, s] for s, _ in works]}
    graphs = {"enable_breakable_cuda_graph": True, "warmup_resolutions": [f"{side}x{side}" for side, _ in works]}
    variants: dict[str, Body] = {"eager": {}, "graphs": {"engine_args": graphs}}
    timed: dict[tuple[str, int], float] = {}
    drawn: dict[tuple[str, int], bytes] = {}
    for i, (preset, more) in enumerate(variants.items()):
        own = replace(lane, port=lane.port + i)
        started = Row("flux start to ready, " + preset, notes={"sizes": len(works)})
        with own.app(f"image-{preset}", {"image": model | more}, row=started) as app, own.client(app) as client:
            for side, steps in works:
                row = Row(f"flux {side}x{side} {steps} steps", preset, notes={"gpu_memory": memory(lane.gpus)})
                drawn[preset, side] = draw_image(client, image_body(side, steps))  # the first of a size: not timed
                body = image_body(side, steps, response_format="url")
                row.ours = [post(client, PATHS["image"], body)[0] for _ in range(lane.rounds)]
                timed[preset, side] = statistics.median(row.ours)
                if preset != "eager":
                    row.notes["of_eager"] = round(timed[preset, side] / timed["eager", side], 4)
                    row.notes["to_exact"] = [difference(drawn["eager", side], drawn[preset, side])]
                lane.write(row)
    (lane.folder / EXACT).write_bytes(drawn["eager", works[-1][0]])


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
        data = draw_image(client, image_body(side, steps))
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
