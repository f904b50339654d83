"""The video engine on the demo checkpoint, and on two made from it: one of two experts, one without image-to-video."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serve_app import demo
from serve_app.engines.base import Step
from serve_app.engines.diffusers.diffusion import DiffusersVideoEngine
from serve_app.engines.load import load
from serve_app.errors import UnsupportedParameter
from serve_app.media.images import Pixels
from serve_app.model_settings import VideoDefaults, VideoSettings
from serve_app.tasks import VideoTask


@pytest.fixture(scope="module")
def folder() -> Path:
    return demo.find("demo/wan-tiny")


def load_small(folder: Path) -> DiffusersVideoEngine:
    settings = VideoSettings(
        model=str(folder), served_name="demo/wan-tiny", defaults=VideoDefaults(width=64, height=64, num_frames=5)
    )
    engine = load(settings)
    assert isinstance(engine, DiffusersVideoEngine)
    return engine


@pytest.fixture
async def engine(folder: Path) -> AsyncIterator[DiffusersVideoEngine]:
    engine = load_small(folder)
    yield engine
    engine.close()


@pytest.fixture
async def two_experts(folder: Path, tmp_path: Path) -> AsyncIterator[DiffusersVideoEngine]:
    """As Wan2.2-T2V-A14B: a second transformer, whose output is the first one's turned around."""
    changed = shutil.copytree(folder, tmp_path / "two-experts")
    shutil.copytree(changed / "transformer", changed / "transformer_2")
    _turn_around(changed / "transformer_2" / "diffusion_pytorch_model.safetensors")
    _change_index(
        changed, transformer_2=["diffusers", "WanTransformer3DModel"], boundary_ratio=0.9, expand_timesteps=False
    )
    engine = load_small(changed)
    yield engine
    engine.close()


@pytest.fixture
async def text_only(folder: Path, tmp_path: Path) -> AsyncIterator[DiffusersVideoEngine]:
    changed = shutil.copytree(folder, tmp_path / "text-only")
    _change_index(changed, expand_timesteps=False)
    engine = load_small(changed)
    yield engine
    engine.close()


def task(**changes: Any) -> VideoTask:
    values: dict[str, Any] = {
        "id": "v",
        "model": "demo/wan-tiny",
        "prompt": "a red cat",
        "width": 64,
        "height": 64,
        "num_frames": 5,
        "fps": 8,
        "num_inference_steps": 2,
        "guidance_scale": 5.0,
        "seed": 7,
    }
    return VideoTask(**(values | changes))


async def frames(engine: DiffusersVideoEngine, image: bytes | None = None, **changes: Any) -> Pixels:
    output = await engine.generate(task(**changes), image, lambda _: None)
    assert output.path is None
    assert output.frames is not None
    return output.frames


def photo() -> Image.Image:
    """Blue, with the lower half green."""
    picture = Image.new("RGB", (64, 64), (30, 60, 200))
    picture.paste((20, 150, 40), (0, 32, 64, 64))
    return picture


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def distance(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


async def test_card_and_warm_up(engine: DiffusersVideoEngine) -> None:
    assert engine.card.model == "demo/wan-tiny"
    assert engine.card.capabilities == {"image_to_video", "negative_prompt", "progress", "cancel"}
    await engine.warm_up()
    await engine.check_health()


@pytest.mark.parametrize(
    ("width", "height", "count"), [(64, 64, 5), (66, 80, 1), (100, 70, 4), (64, 64, 6), (48, 34, 9)]
)
async def test_any_size_and_frame_count_is_exact(
    engine: DiffusersVideoEngine, width: int, height: int, count: int
) -> None:
    made = await frames(engine, width=width, height=height, num_frames=count)
    assert made.shape == (count, height, width, 3)
    assert made.dtype == np.uint8


async def test_seed_prompt_guidance_and_negative_prompt_decide_the_video(engine: DiffusersVideoEngine) -> None:
    first = await frames(engine)
    assert np.array_equal(first, await frames(engine))
    for change in ({"seed": 8}, {"prompt": "the sea"}, {"guidance_scale": 2.0}, {"negative_prompt": "a dog"}):
        assert distance(first, await frames(engine, **change)) > 0.1, change  # pyright: ignore[reportArgumentType]


async def test_frames_move(engine: DiffusersVideoEngine) -> None:
    made = await frames(engine, num_frames=9)
    assert distance(made[0], made[8]) > 1


async def test_steps_are_told_in_order(engine: DiffusersVideoEngine) -> None:
    steps: list[Step] = []
    await engine.generate(task(num_inference_steps=3), None, steps.append)
    assert steps == [Step(1, 3), Step(2, 3), Step(3, 3)]


async def test_the_first_frame_is_the_image(engine: DiffusersVideoEngine) -> None:
    made = await frames(engine, png(photo()), num_frames=6, width=60)
    assert made.shape == (6, 64, 60, 3)
    resized = np.asarray(photo().resize((60, 64)))
    assert distance(made[0], resized) < 10 < distance(made[5], resized)
    turned = await frames(engine, png(photo().rotate(180)), num_frames=6, width=60)
    assert distance(turned[0], resized) > 30


async def test_a_cancel_stops_within_one_step(engine: DiffusersVideoEngine) -> None:
    steps: list[Step] = []
    second = asyncio.Event()

    def on_step(step: Step) -> None:
        steps.append(step)
        if step.step == 2:
            second.set()

    making = asyncio.create_task(engine.generate(task(num_inference_steps=100), None, on_step))
    await second.wait()
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    # the event loop may learn of one more step that was done while the cancel was on its way
    assert len(steps) <= 4
    assert len(await frames(engine)) == 5


@pytest.mark.parametrize("name", ["boundary_ratio", "guidance_scale_2"])
async def test_one_expert_refuses_what_is_for_two(engine: DiffusersVideoEngine, name: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        await frames(engine, **{name: 0.9})  # pyright: ignore[reportArgumentType]
    assert caught.value.param == f"nvext.{name}"


async def test_two_experts_share_the_steps(two_experts: DiffusersVideoEngine) -> None:
    assert "two_experts" in two_experts.card.capabilities
    first = await frames(two_experts)
    assert distance(first, await frames(two_experts, boundary_ratio=0.0)) > 1
    assert distance(first, await frames(two_experts, guidance_scale_2=1.5)) > 0.1
    assert np.array_equal(first, await frames(two_experts)), "a request's boundary is gone with it"


async def test_a_text_only_model_refuses_an_image(text_only: DiffusersVideoEngine) -> None:
    assert "image_to_video" not in text_only.card.capabilities
    with pytest.raises(UnsupportedParameter, match="from text alone") as caught:
        await frames(text_only, png(photo()))
    assert caught.value.param == "input_reference"
    assert len(await frames(text_only)) == 5


def _change_index(folder: Path, **changes: Any) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | changes))


def _turn_around(file: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(file)
    weights["proj_out.weight"] = -weights["proj_out.weight"]
    save_file(weights, file, metadata={"format": "pt"})
