"""Adapters and presets of quality on SGLang's workers: a small FLUX checkpoint and two LoRA files drawn by lot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
from safetensors.torch import load_file, save_file

from serve_app.engines.sglang.diffusion import SGLangImageEngine
from serve_app.errors import GenerationFailed
from serve_app.model_settings import ImageSettings
from serve_app.tasks import Adapter, ImageTask, StepCaching
from tests.engines.diffusers.adapters import write_adapter

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1200), pytest.mark.filterwarnings("ignore")]
TASK = ImageTask(
    id="i", model="flux", prompt="a boat", width=128, height=96, num_inference_steps=4, guidance_scale=3.5, seed=5
)
A, B = Adapter(name="a", scale=1.0), Adapter(name="b", scale=1.0)
CACHE_DIT = StepCaching(method="cache_dit")


def settings(checkpoints: dict[str, Path], adapters: dict[str, Path], **changes: Any) -> ImageSettings:
    files = {name: {"path": str(path)} for name, path in adapters.items()}
    defaults = {"width": 128, "height": 96, "num_inference_steps": 4}
    return ImageSettings.model_validate(
        {"model": str(checkpoints["flux"]), "gpus": 1, "defaults": defaults, "adapters": files, **changes}
    )


@pytest.fixture(scope="module")
def adapters(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    model = diffusers.FluxTransformer2DModel.from_pretrained(checkpoints["flux"], subfolder="transformer")
    return {name: write_adapter(folder / f"{name}.safetensors", model, seed) for seed, name in enumerate("ab")}


@pytest.fixture
async def engine(checkpoints: dict[str, Path], adapters: dict[str, Path]) -> AsyncIterator[SGLangImageEngine]:
    quality = {"low": {"step_caching": {"method": "cache_dit"}}, "high": {"precision": "exact"}}
    made = SGLangImageEngine(settings(checkpoints, adapters, quality=quality))
    await made.warm_up()
    yield made
    made.close()


async def draw(engine: SGLangImageEngine, *adapters: Adapter, **changes: Any) -> bytes:
    output = await engine.generate(replace(TASK, adapters=adapters, **changes), lambda _: None)
    return output.pixels[0].tobytes()


async def test_each_request_has_its_own(engine: SGLangImageEngine) -> None:
    wanted: list[tuple[Adapter, ...]] = [(), (A,), (B,), (A, B), (replace(A, scale=0.5),)]
    drawn = [await draw(engine, *chosen) for chosen in wanted]
    assert len(set(drawn)) == len(wanted)
    assert [await draw(engine, *chosen) for chosen in wanted[::-1]] == drawn[::-1]
    assert await draw(engine, replace(A, scale=0.0)) == drawn[0]


async def test_a_preset_leaves_nothing_for_the_next(engine: SGLangImageEngine) -> None:
    exact = await draw(engine, num_inference_steps=12)
    output = await engine.generate(replace(TASK, num_inference_steps=12, step_caching=CACHE_DIT), lambda _: None)
    assert output.step_caching == CACHE_DIT
    assert await draw(engine, num_inference_steps=12) == exact


async def test_one_that_does_not_fit_stops_the_start(
    checkpoints: dict[str, Path], adapters: dict[str, Path], tmp_path: Path
) -> None:
    other = {key.replace("blocks", "bricks"): value for key, value in load_file(adapters["a"]).items()}
    path = tmp_path / "other.safetensors"
    save_file(other, path)
    engine = SGLangImageEngine(settings(checkpoints, {"other": path}))
    try:
        with pytest.raises(GenerationFailed, match="the adapter 'other'"):
            await engine.warm_up()
    finally:
        engine.close()


def test_teacache_without_coefficients_is_refused(checkpoints: dict[str, Path]) -> None:
    quality = {"low": {"step_caching": {"method": "teacache"}}}
    with pytest.raises(ValueError, match=r"quality.low.step_caching: SGLang has no TeaCache for this model"):
        SGLangImageEngine(settings(checkpoints, {}, quality=quality))
