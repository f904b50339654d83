"""Step caching of the diffusers engine: it changes what it may, and leaves nothing behind for the next request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from serve_app import demo
from serve_app.engines import pictures
from serve_app.engines.base import ImageOutput
from serve_app.engines.diffusers.caching import check_presets
from serve_app.engines.diffusers.diffusion import DiffusersImageEngine
from serve_app.engines.load import load
from serve_app.model_settings import ImageSettings, VideoSettings
from serve_app.tasks import StepCaching
from tests.engines.diffusers.small import IMAGE, film

ALL_SKIPPED = StepCaching(method="first_block", parameters={"threshold": 1e6})
NONE_SKIPPED = StepCaching(method="first_block", parameters={"threshold": 1e-6})
SEER = StepCaching(method="taylorseer", parameters={"cache_interval": 3, "disable_cache_before_step": 1})


def presets(**caching: Any) -> dict[str, Any]:
    return {"quality": {"low": {"step_caching": caching}}}


def stir(folder: Path, cls: Any, target: Path) -> str:
    """A copy of a checkpoint in which every block counts: the gates of a fresh transformer are near zero."""
    pipeline = cls.from_pretrained(folder)
    lot = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in pipeline.transformer.parameters():
            weight.copy_(torch.randn(weight.shape, generator=lot) * 0.1)
    pipeline.save_pretrained(target)
    return str(target)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    source = demo.find("demo/flux-tiny")
    return stir(source, diffusers.FluxPipeline, tmp_path_factory.mktemp("flux"))


@pytest.fixture
async def engine(folder: str) -> AsyncIterator[DiffusersImageEngine]:
    settings = ImageSettings.model_validate({"model": folder, **presets(method="first_block")})
    engine = load(settings)
    assert isinstance(engine, DiffusersImageEngine)
    yield engine
    engine.close()


async def draw(engine: DiffusersImageEngine, caching: StepCaching | None, **changes: Any) -> ImageOutput:
    return await engine.generate(replace(IMAGE, step_caching=caching, **changes), lambda _: None)


def file_of(output: ImageOutput, index: int = 0) -> bytes:
    return output.pixels[index].tobytes()


async def test_steps_are_skipped_and_told(engine: DiffusersImageEngine) -> None:
    exact, skipped, seen = [await draw(engine, caching) for caching in (None, ALL_SKIPPED, SEER)]
    assert len({file_of(exact), file_of(skipped), file_of(seen)}) == 3
    assert (exact.step_caching, skipped.step_caching, seen.step_caching) == (None, ALL_SKIPPED, SEER)
    assert file_of(await draw(engine, NONE_SKIPPED)) == file_of(exact)


async def test_nothing_is_left_for_the_next(engine: DiffusersImageEngine) -> None:
    exact = file_of(await draw(engine, None))
    both = await draw(engine, ALL_SKIPPED, n=2)
    assert file_of(both, 1) == file_of(await draw(engine, ALL_SKIPPED, seed=8))
    assert file_of(await draw(engine, None)) == exact
    assert file_of(await draw(engine, ALL_SKIPPED)) == file_of(both)


async def test_an_edit_whose_pipeline_cannot_is_made_without(engine: DiffusersImageEngine) -> None:
    image = (pictures.blank(),)
    edited = await draw(engine, ALL_SKIPPED, input_images=image)
    assert edited.step_caching is None
    assert file_of(edited) == file_of(await draw(engine, None, input_images=image))


@pytest.mark.parametrize(
    ("caching", "reason"),
    [
        ({"method": "cache_dit"}, "quality.low.step_caching: the diffusers engine has no method 'cache_dit'"),
        (
            {"method": "first_block", "threshold": 0},
            "first_block: threshold: Input should be greater than 0. Allowed: threshold",
        ),
    ],
)
def test_what_the_engine_does_not_know_stops_the_start(caching: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load(ImageSettings.model_validate({"model": "/nowhere", **presets(**caching)}))


def test_a_pipeline_that_sets_no_context_stops_the_start() -> None:
    folder = demo.find("demo/flux-tiny")
    pipeline = diffusers.FluxImg2ImgPipeline.from_pretrained(folder)
    settings = ImageSettings.model_validate({"model": str(folder), **presets(method="first_block")})
    reason = "quality.low.step_caching: diffusers' FluxImg2ImgPipeline sets no cache context"
    with pytest.raises(ValueError, match=reason):
        check_presets([pipeline], settings)
    check_presets([pipeline], ImageSettings.model_validate({"quality": {"low": {"num_inference_steps": 2}}}))


async def test_videos_know_it_too(tmp_path: Path) -> None:
    folder = stir(demo.find("demo/wan-tiny"), diffusers.WanPipeline, tmp_path)
    engine = load(VideoSettings.model_validate({"model": folder, **presets(method="taylorseer")}))
    exact = await film(engine)
    assert await film(engine, step_caching=SEER) != exact
    assert await film(engine) == exact
    engine.close()
