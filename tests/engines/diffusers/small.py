"""Small tasks for the demo's pipelines, and what comes of them as bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from serve_app.engines.base import VideoEngine
from serve_app.tasks import ImageTask, VideoTask

IMAGE = ImageTask(
    id="i", model="flux", prompt="a red cat", width=64, height=64, num_inference_steps=4, guidance_scale=3.5, seed=7
)
VIDEO = VideoTask(
    id="v",
    model="wan",
    prompt="a river",
    width=32,
    height=32,
    num_frames=5,
    fps=8,
    num_inference_steps=4,
    guidance_scale=3.0,
    seed=1,
)


async def film(engine: VideoEngine, **changes: Any) -> bytes:
    output = await engine.generate(replace(VIDEO, **changes), None, lambda _: None)
    assert output.frames is not None
    return output.frames.tobytes()
