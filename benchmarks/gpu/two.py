"""One generation over two GPUs, by each way of splitting it, beside the bare engine split the same way."""

from __future__ import annotations

import json
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Literal

import httpx

from benchmarks.gpu.asked import PATHS, bare_image, bare_video, image_body, make_video, video_body
from benchmarks.gpu.bare import Bare
from benchmarks.gpu.lane import FLUX, WAN_14B, Lane
from benchmarks.gpu.measure import Body, Row, in_turns, post
from serve_app.engines.parallel import sglang_arguments
from serve_app.model_settings import ImageSettings, VideoSettings


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
