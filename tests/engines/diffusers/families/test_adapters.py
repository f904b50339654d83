"""Adapters on checkpoints of other make than FLUX's: a UNet, and a video model of two experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from diffusers import UNet2DConditionModel, WanTransformer3DModel

from serve_app.engines import pictures
from serve_app.engines.diffusers.diffusion import DiffusersImageEngine, DiffusersVideoEngine
from serve_app.engines.load import load
from serve_app.model_settings import AdapterSettings, ImageSettings, VideoSettings
from serve_app.tasks import Adapter, ImageTask, VideoTask
from tests.engines.diffusers.adapters import write_adapter
from tests.engines.diffusers.families import test_stable_diffusion_xl, test_wan

SHARED: dict[str, Any] = {"model": "m", "prompt": "a cat", "width": 64, "height": 64, "seed": 3}
CHOICES: tuple[tuple[Adapter, ...], ...] = ((), (Adapter(name="a", scale=1.0),), ())


def adapters(path: Path, model: Any, part: str = "transformer") -> dict[str, AdapterSettings]:
    return {"a": AdapterSettings(path=str(write_adapter(path / "a.safetensors", model, 1, prefix=part)))}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # a scheduler of diffusers
async def test_a_unet(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    test_stable_diffusion_xl.make(folder)
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    engine = load(ImageSettings(model=str(folder), adapters=adapters(tmp_path, unet, "unet")))
    assert isinstance(engine, DiffusersImageEngine)
    tasks = [ImageTask(id="i", num_inference_steps=2, adapters=chosen, **SHARED) for chosen in CHOICES]
    drawn = [(await engine.generate(task, lambda _: None)).pixels[0] for task in tasks]
    assert (drawn[0] == drawn[2]).all()
    assert (drawn[0] != drawn[1]).any()
    engine.close()


async def test_both_experts(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    test_wan.make_two_experts(folder)
    expert = WanTransformer3DModel.from_pretrained(folder, subfolder="transformer")
    engine = load(VideoSettings(model=str(folder), adapters=adapters(tmp_path, expert)))
    assert isinstance(engine, DiffusersVideoEngine)

    async def film(chosen: tuple[Adapter, ...], boundary: float) -> bytes:
        """`boundary` 0: the first expert makes all steps, 1: the second does."""
        task = VideoTask(
            id="v", num_frames=5, fps=8, num_inference_steps=2, adapters=chosen, boundary_ratio=boundary, **SHARED
        )
        output = await engine.generate(task, pictures.blank(), lambda _: None)
        assert output.frames is not None
        return output.frames.tobytes()

    for boundary in (0.0, 1.0):
        bare, adapted, again = [await film(chosen, boundary) for chosen in CHOICES]
        assert bare == again != adapted
    engine.close()
