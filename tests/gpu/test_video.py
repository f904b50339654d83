"""Wan on SGLang: a small checkpoint with the layout of Wan2.2-TI2V-5B, which takes text with or without an image."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve_app.engines.sglang.diffusion import SGLangVideoEngine
from serve_app.errors import UnsupportedParameter
from serve_app.model_settings import VideoDefaults, VideoSettings
from serve_app.tasks import VideoTask
from tests.probing import probe

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1200), pytest.mark.filterwarnings("ignore")]
TASK = VideoTask(
    id="v",
    model="wan",
    prompt="a fox",
    width=128,
    height=96,
    num_frames=5,
    fps=8,
    num_inference_steps=3,
    guidance_scale=5.0,
    seed=5,
)
CUT = replace(TASK, num_frames=6)
"""One frame more than the model makes at once: frames come back instead of a file."""


@pytest.fixture(scope="module")
async def engine(checkpoints: dict[str, Path]) -> AsyncIterator[SGLangVideoEngine]:
    settings = VideoSettings(
        model=str(checkpoints["wan-ti2v"]),
        served_name="wan",
        gpus=1,
        defaults=VideoDefaults(width=128, height=96, num_frames=5, num_inference_steps=3),
    )
    made = SGLangVideoEngine(settings)
    await made.warm_up()
    yield made
    made.close()


async def frames(engine: SGLangVideoEngine, task: VideoTask, image: bytes | None = None) -> bytes:
    output = await engine.generate(task, image, lambda _: None)
    assert output.frames is not None
    return output.frames.tobytes()


def png(color: tuple[int, int, int], size: tuple[int, int] = (200, 100)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, color).save(out, "PNG")
    return out.getvalue()


async def test_the_worker_encodes_a_video_that_fits(engine: SGLangVideoEngine) -> None:
    output = await engine.generate(TASK, None, lambda _: None)
    assert output.path is not None
    info = probe(output.path)
    assert (info.frames, info.fps, info.width, info.height, info.codec) == (5, 8, 128, 96, "h264")
    output.path.unlink()


async def test_frames_are_cut_to_what_was_asked(engine: SGLangVideoEngine) -> None:
    output = await engine.generate(replace(CUT, width=120, height=90), None, lambda _: None)
    assert output.frames is not None
    assert output.frames.shape == (6, 90, 120, 3)
    assert output.frames.dtype == np.uint8


async def test_a_seed_is_a_video(engine: SGLangVideoEngine) -> None:
    first = await frames(engine, CUT)
    assert await frames(engine, CUT) == first
    assert await frames(engine, replace(CUT, seed=6)) != first


async def test_guidance_and_negative_prompt_change_it(engine: SGLangVideoEngine) -> None:
    first = await frames(engine, CUT)
    assert await frames(engine, replace(CUT, guidance_scale=1.0)) != first
    assert await frames(engine, replace(CUT, negative_prompt="red")) != first


async def test_an_image_begins_the_video_at_the_asked_size(engine: SGLangVideoEngine) -> None:
    assert "image_to_video" in engine.card.capabilities
    red, blue = png((200, 30, 30)), png((30, 30, 200), (64, 300))
    output = await engine.generate(CUT, red, lambda _: None)
    assert output.frames is not None
    assert output.frames.shape == (6, 96, 128, 3)
    assert output.frames.tobytes() != await frames(engine, CUT)
    assert output.frames.tobytes() != await frames(engine, CUT, blue)


async def test_what_it_lacks_is_refused(engine: SGLangVideoEngine) -> None:
    with pytest.raises(UnsupportedParameter, match="has one expert"):
        await engine.generate(replace(TASK, boundary_ratio=0.9), None, lambda _: None)


async def test_a_cancel_stops_the_worker_at_its_step(engine: SGLangVideoEngine) -> None:
    for image in (None, png((200, 30, 30))):
        work = asyncio.create_task(engine.generate(replace(TASK, num_inference_steps=3000), image, lambda _: None))
        await asyncio.sleep(0.5)
        work.cancel()
        asked = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert time.monotonic() - asked < 1
    assert await frames(engine, CUT) == await frames(engine, CUT)
