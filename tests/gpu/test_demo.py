"""The trained demo model on SGLang: its folder has a name of its own, and its prompts are short."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import pytest

from serve_app import demo
from serve_app.engines.presets import find_step_caching
from serve_app.engines.sglang.diffusion import SGLangImageEngine
from serve_app.model_settings import ImageDefaults, ImageSettings
from serve_app.profiles import GPU
from serve_app.tasks import ImageTask, StepCaching

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]
PROFILE = ImageSettings.model_validate(GPU["models"]["image"])
LOW = dict(find_step_caching(PROFILE))["quality.low.step_caching"]
STEPS = PROFILE.defaults.num_inference_steps


@pytest.fixture(scope="module")
async def engine() -> AsyncIterator[SGLangImageEngine]:
    settings = ImageSettings(
        model=str(demo.find("demo/flux-tiny")),
        gpus=1,
        defaults=ImageDefaults(width=256, height=256, num_inference_steps=STEPS, guidance_scale=2.0),
    )
    made = SGLangImageEngine(settings)
    yield made
    made.close()


@pytest.mark.parametrize("caching", [None, LOW], ids=["exact", "low"])
async def test_it_draws_what_is_asked_for(engine: SGLangImageEngine, caching: StepCaching | None) -> None:
    task = ImageTask(
        id="i",
        model="demo",
        prompt="a sunset over the ocean",
        width=256,
        height=256,
        num_inference_steps=STEPS,
        guidance_scale=2.0,
        seed=7,
        step_caching=caching,
    )
    [picture] = (await engine.generate(task, lambda _: None)).pixels
    red, _, blue = np.moveaxis(picture.astype(float), 2, 0)
    assert red[100:140].mean() > blue[100:140].mean() + 50  # the sky above the horizon is orange
    assert blue[200:].mean() > red[200:].mean() + 30  # the sea below is blue
