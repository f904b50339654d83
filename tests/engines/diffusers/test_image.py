"""The image engine on the demo checkpoint."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serve_app import demo
from serve_app.engines.base import ImageOutput, Step
from serve_app.engines.diffusers.diffusion import DiffusersImageEngine
from serve_app.engines.load import load
from serve_app.media.images import Pixels
from serve_app.model_settings import ImageDefaults, ImageSettings
from serve_app.tasks import ImageTask


@pytest.fixture
async def engine() -> AsyncIterator[DiffusersImageEngine]:
    folder = demo.find("demo/flux-tiny")
    settings = ImageSettings(
        model=str(folder), served_name="demo/flux-tiny", defaults=ImageDefaults(width=64, height=64)
    )
    engine = load(settings)
    assert isinstance(engine, DiffusersImageEngine)
    yield engine
    engine.close()


def task(**changes: Any) -> ImageTask:
    values: dict[str, Any] = {
        "id": "i",
        "model": "demo/flux-tiny",
        "prompt": "a cat on a red background",
        "width": 64,
        "height": 64,
        "num_inference_steps": 4,
        "guidance_scale": 3.5,
        "seed": 7,
    }
    return ImageTask(**(values | changes))


async def draw(engine: DiffusersImageEngine, **changes: Any) -> ImageOutput:
    return await engine.generate(task(**changes), lambda _: None)


async def pixels(engine: DiffusersImageEngine, **changes: Any) -> Pixels:
    return (await draw(engine, **changes)).pixels[0]


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def photo(width: int = 64, height: int = 64) -> Image.Image:
    """Blue, with the lower half green."""
    picture = Image.new("RGB", (width, height), (30, 60, 200))
    picture.paste((20, 150, 40), (0, height // 2, width, height))
    return picture


def distance(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def likeness(one: Pixels, other: Pixels) -> float:
    """The correlation of two pictures in what lies where, whatever colour each has as a whole."""
    shapes = [picture - picture.mean(axis=(0, 1)) for picture in (one, other)]
    return float(np.corrcoef(shapes[0].ravel(), shapes[1].ravel())[0, 1])


async def test_card_and_warm_up(engine: DiffusersImageEngine) -> None:
    assert engine.card.model == "demo/flux-tiny"
    assert engine.card.capabilities == {"previews", "edit", "mask", "negative_prompt", "progress", "cancel"}
    await engine.warm_up()
    await engine.check_health()


@pytest.mark.parametrize(("width", "height"), [(64, 64), (65, 80), (100, 71), (1, 16)])
async def test_any_size_is_exact(engine: DiffusersImageEngine, width: int, height: int) -> None:
    drawn = await pixels(engine, width=width, height=height)
    assert drawn.shape == (height, width, 3)
    assert drawn.dtype == np.uint8


async def test_the_largest_size_of_the_demo(engine: DiffusersImageEngine) -> None:
    assert (await pixels(engine, width=512, height=512, num_inference_steps=1)).shape == (512, 512, 3)


async def test_seed_prompt_guidance_and_steps_decide_the_picture(engine: DiffusersImageEngine) -> None:
    first = await pixels(engine)
    assert np.array_equal(first, await pixels(engine))
    for change in (
        {"seed": 8},
        {"prompt": "a green forest"},
        {"prompt": "a cat on a blue background"},
        {"guidance_scale": 10.0},
        {"num_inference_steps": 5},
        {"negative_prompt": "a dog"},
    ):
        assert distance(first, await pixels(engine, **change)) > 0.1, change


async def test_each_image_of_several_is_the_one_of_its_seed(engine: DiffusersImageEngine) -> None:
    several = await draw(engine, n=3)
    assert several.seeds == [7, 8, 9]
    for seed, drawn in zip(several.seeds, several.pixels, strict=True):
        assert np.array_equal(drawn, await pixels(engine, seed=seed))


async def test_steps_are_told_in_order_over_all_images(engine: DiffusersImageEngine) -> None:
    steps: list[Step] = []
    await engine.generate(task(n=2), steps.append)
    assert [(step.step, step.total, step.preview) for step in steps] == [(step, 8, None) for step in range(1, 9)]


async def test_previews_come_closer_to_the_picture(engine: DiffusersImageEngine) -> None:
    steps: list[Step] = []
    output = await engine.generate(task(num_inference_steps=8, partial_images=3, width=70), steps.append)
    previews = [step for step in steps if step.preview is not None]
    assert [step.step for step in previews] == [2, 4, 6]
    shown = [step.preview for step in previews if step.preview is not None]
    assert all(preview.shape == (64, 70, 3) and preview.std() > 2 for preview in shown)
    distances = [distance(preview, output.pixels[0]) for preview in shown]
    assert distances == sorted(distances, reverse=True)
    assert np.array_equal(output.pixels[0], await pixels(engine, num_inference_steps=8, width=70))
    left = vars(engine._family.pipeline.scheduler)  # pyright: ignore[reportPrivateUsage]
    assert "step" not in left, "each picture would leave one more"


async def test_an_edit_stays_near_its_input(engine: DiffusersImageEngine) -> None:
    source = photo()
    near, far = [
        await pixels(engine, input_images=(png(source),), parameters={"strength": strength}, num_inference_steps=8)
        for strength in (0.15, 1.0)
    ]
    assert likeness(near, np.asarray(source)) > 0.4 > 0.2 > likeness(far, np.asarray(source))


async def test_an_edit_takes_any_size_and_counts_its_own_steps(engine: DiffusersImageEngine) -> None:
    steps: list[Step] = []
    edit = task(input_images=(png(photo(50, 90)),), parameters={"strength": 0.5}, width=70, height=50, partial_images=1)
    output = await engine.generate(edit, steps.append)
    assert output.pixels[0].shape == (50, 70, 3)
    assert [(step.step, step.total) for step in steps] == [(1, 2), (2, 2)]
    assert [step.step for step in steps if step.preview is not None] == [1]


async def test_a_weak_edit_takes_at_least_one_step(engine: DiffusersImageEngine) -> None:
    steps: list[Step] = []
    await engine.generate(task(input_images=(png(photo()),), parameters={"strength": 0.01}), steps.append)
    assert [(step.step, step.total) for step in steps] == [(1, 1)]


@pytest.mark.parametrize("kind", ["transparent", "white"])
async def test_outside_of_the_mask_nothing_changes(engine: DiffusersImageEngine, kind: str) -> None:
    source = photo()
    mask = Image.new("RGBA", (64, 64), "black")
    mask.paste((0, 0, 0, 0) if kind == "transparent" else "white", (0, 0, 32, 64))
    steps: list[Step] = []
    output = await engine.generate(
        task(input_images=(png(source),), mask=png(mask), parameters={"strength": 1.0}, partial_images=1), steps.append
    )
    preview = next(step.preview for step in steps if step.preview is not None)
    for drawn in (output.pixels[0], preview):
        assert np.array_equal(drawn[:, 32:], np.asarray(source)[:, 32:])
        assert distance(drawn[:, :32], np.asarray(source)[:, :32]) > 10


async def test_a_cancel_stops_within_one_step(engine: DiffusersImageEngine) -> None:
    steps: list[Step] = []
    second = asyncio.Event()

    def on_step(step: Step) -> None:
        steps.append(step)
        if step.step == 2:
            second.set()

    drawing = asyncio.create_task(engine.generate(task(num_inference_steps=100, width=256, height=256), on_step))
    await second.wait()
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing
    assert len(steps) <= 3
    assert (await pixels(engine)).shape == (64, 64, 3)
