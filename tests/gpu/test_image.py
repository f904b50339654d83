"""FLUX on SGLang: a small checkpoint of its layout."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serve_app.engines.base import Step
from serve_app.engines.sglang.diffusion import SGLangImageEngine
from serve_app.errors import EngineDied, UnsupportedParameter
from serve_app.model_settings import ImageDefaults, ImageSettings
from serve_app.tasks import ImageTask
from tests.gpu.conftest import workers

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1200), pytest.mark.filterwarnings("ignore")]
TASK = ImageTask(
    id="i", model="flux", prompt="a boat", width=128, height=96, num_inference_steps=4, guidance_scale=3.5, seed=5
)

LONG = 3000
"""Steps of a generation that is still under way when something happens to it."""


@pytest.fixture(scope="module")
async def engine(checkpoints: dict[str, Path]) -> AsyncIterator[SGLangImageEngine]:
    settings = ImageSettings(
        model=str(checkpoints["flux"]),
        served_name="flux",
        gpus=1,
        defaults=ImageDefaults(width=128, height=96, num_inference_steps=4),
    )
    made = SGLangImageEngine(settings)
    await made.warm_up()
    yield made
    made.close()


async def draw(engine: SGLangImageEngine, task: ImageTask) -> list[bytes]:
    output = await engine.generate(task, lambda _: None)
    return [pixels.tobytes() for pixels in output.pixels]


async def test_size_and_type(engine: SGLangImageEngine) -> None:
    output = await engine.generate(replace(TASK, width=100, height=72), lambda _: None)
    assert output.pixels[0].shape == (72, 100, 3)
    assert output.pixels[0].dtype == np.uint8
    assert output.seeds == [5]


async def test_a_seed_is_a_picture(engine: SGLangImageEngine) -> None:
    first, second = await draw(engine, replace(TASK, n=2))
    assert await draw(engine, TASK) == [first]
    assert await draw(engine, replace(TASK, seed=6)) == [second]
    assert first != second


async def test_a_negative_prompt_changes_the_picture(engine: SGLangImageEngine) -> None:
    assert await draw(engine, TASK) != await draw(engine, replace(TASK, negative_prompt="red, blurred"))


async def test_the_guidance_used_is_told(engine: SGLangImageEngine) -> None:
    plain = await engine.generate(replace(TASK, guidance_scale=2.0), lambda _: None)
    assert plain.guidance_scale == 3.5
    negative = await engine.generate(replace(TASK, guidance_scale=2.0, negative_prompt="x"), lambda _: None)
    assert negative.guidance_scale == 2.0


async def test_progress_rises_to_the_end(engine: SGLangImageEngine) -> None:
    steps: list[Step] = []
    await engine.generate(replace(TASK, n=2), steps.append)
    assert steps[-1] == Step(8, 8)
    assert [step.step for step in steps] == sorted({step.step for step in steps})


async def test_it_does_not_edit(engine: SGLangImageEngine) -> None:
    with pytest.raises(UnsupportedParameter):
        await engine.generate(replace(TASK, input_images=(b"x",)), lambda _: None)


async def test_a_cancel_stops_the_worker_at_its_step(engine: SGLangImageEngine) -> None:
    rng = random.Random(1)
    for _ in range(50):
        work = asyncio.create_task(engine.generate(replace(TASK, num_inference_steps=LONG), lambda _: None))
        await asyncio.sleep(rng.uniform(0, 0.4))
        work.cancel()
        asked = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert time.monotonic() - asked < 1
        await engine.check_health()
    assert await draw(engine, TASK) == await draw(engine, TASK)


async def test_a_killed_worker_fails_its_request(engine: SGLangImageEngine) -> None:
    work = asyncio.create_task(engine.generate(replace(TASK, num_inference_steps=LONG), lambda _: None))
    await asyncio.sleep(0.5)
    os.kill(workers()[0], signal.SIGKILL)
    with pytest.raises(EngineDied):
        await asyncio.wait_for(work, 10)
    with pytest.raises(EngineDied):
        await engine.check_health()
    with pytest.raises(EngineDied):
        await engine.generate(TASK, lambda _: None)
    engine.close()
    assert workers() == []
