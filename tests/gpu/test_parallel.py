"""One video split over two workers: the same frames as from one, whichever way it is split. Needs two GPUs, or none."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serve_app.engines.sglang.diffusion import SGLangVideoEngine
from serve_app.errors import InvalidRequest
from serve_app.model_settings import Parallel, VideoDefaults, VideoSettings
from tests.gpu.conftest import workers
from tests.gpu.test_video import CUT

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(torch.cuda.device_count() == 1, reason="two workers need two GPUs"),
]
CLOSE = 0.1
"""Of what another seed changes: sums of bfloat16 in another order, made larger by random weights."""


def start(folder: Path, gpus: int, parallel: Parallel) -> SGLangVideoEngine:
    defaults = VideoDefaults(width=128, height=96, num_frames=5, num_inference_steps=3)
    return SGLangVideoEngine(
        VideoSettings(model=str(folder), served_name="wan", gpus=gpus, parallel=parallel, defaults=defaults)
    )


async def video(engine: SGLangVideoEngine, seed: int = CUT.seed) -> np.ndarray:
    output = await engine.generate(replace(CUT, seed=seed), None, lambda _: None)
    assert output.frames is not None
    return output.frames.astype(int)


async def stop(engine: SGLangVideoEngine) -> None:
    """Both workers end at the same step: one that went on would wait for the other for ever."""
    for _ in range(10):
        work = asyncio.create_task(engine.generate(replace(CUT, num_inference_steps=3000), None, lambda _: None))
        await asyncio.sleep(0.4)
        work.cancel()
        asked = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert time.monotonic() - asked < 1


@pytest.fixture(scope="module")
async def alone(checkpoints: dict[str, Path]) -> tuple[np.ndarray, float]:
    """The video of one worker, and how far that of another seed is from it."""
    engine = start(checkpoints["wan-1.3b"], 1, "auto")
    frames, other = await video(engine), await video(engine, seed=CUT.seed + 1)
    engine.close()
    return frames, float(np.abs(other - frames).mean())


@pytest.mark.parametrize("parallel", ["tensor", "cfg", "sequence"])
async def test_two_workers_make_the_same_video(
    checkpoints: dict[str, Path], alone: tuple[np.ndarray, float], parallel: Parallel
) -> None:
    engine = start(checkpoints["wan-1.3b"], 2, parallel)
    assert len(workers()) == 2
    frames, another = alone
    away = float(np.abs(await video(engine) - frames).mean())
    print(f"{parallel}: {away:.2f} of 255 from one worker's video, another seed {another:.2f}")
    assert away < CLOSE * another
    await stop(engine)
    assert await video(engine) is not None
    if parallel == "cfg":
        with pytest.raises(InvalidRequest, match="guidance_scale"):
            await engine.generate(replace(CUT, guidance_scale=1.0), None, lambda _: None)
    engine.close()
    assert workers() == []
