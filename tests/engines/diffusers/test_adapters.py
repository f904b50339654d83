"""Adapters (LoRA) of the diffusers engine: switched for each request, never mixed, refused where they do not fit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from serve_app import demo
from serve_app.engines import pictures
from serve_app.engines.diffusers.diffusion import DiffusersImageEngine
from serve_app.engines.load import load
from serve_app.errors import UnsupportedParameter
from serve_app.model_settings import AdapterSettings, ImageSettings, VideoSettings
from serve_app.tasks import Adapter, ImageTask
from tests.engines.diffusers.adapters import write_adapter
from tests.engines.diffusers.small import IMAGE, film

A, B = Adapter(name="acme/pixel.art", scale=1.0), Adapter(name="sketch", scale=1.0)
HALF = Adapter(name="sketch", scale=0.5)


@pytest.fixture(scope="module")
def flux() -> str:
    return str(demo.find("demo/flux-tiny"))


@pytest.fixture(scope="module")
def transformer(flux: str) -> torch.nn.Module:
    return diffusers.FluxTransformer2DModel.from_pretrained(flux, subfolder="transformer")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, transformer: torch.nn.Module) -> dict[str, AdapterSettings]:
    folder = tmp_path_factory.mktemp("loras")
    return {
        name: AdapterSettings(path=str(write_adapter(folder / f"{seed}.safetensors", transformer, seed)))
        for seed, name in enumerate((A.name, B.name))
    }


@pytest.fixture(scope="module")
def engine(flux: str, files: dict[str, AdapterSettings]) -> Iterator[DiffusersImageEngine]:
    engine = load(ImageSettings(model=flux, served_name="flux", adapters=files))
    assert isinstance(engine, DiffusersImageEngine)
    yield engine
    engine.close()


def task(*adapters: Adapter) -> ImageTask:
    return replace(IMAGE, num_inference_steps=2, adapters=adapters)


async def draw(engine: DiffusersImageEngine, *adapters: Adapter) -> bytes:
    return (await engine.generate(task(*adapters), lambda _: None)).pixels[0].tobytes()


async def test_each_request_has_its_own_adapters_in_turn_and_at_once(engine: DiffusersImageEngine, flux: str) -> None:
    wanted: list[tuple[Adapter, ...]] = [(), (A,), (B,), (A, B), (A, HALF)]
    alone = [await draw(engine, *adapters) for adapters in wanted]
    assert len(set(alone)) == len(wanted)
    bare = load(ImageSettings(model=flux, served_name="flux"))
    assert isinstance(bare, DiffusersImageEngine)
    assert alone[0] == await draw(bare)  # an engine that has adapters draws without them what one draws that has none
    bare.close()
    assert [await draw(engine, *adapters) for adapters in wanted[::-1]] == alone[::-1]
    mixed = [*wanted, *wanted[::-1]]
    assert await asyncio.gather(*(draw(engine, *adapters) for adapters in mixed)) == [*alone, *alone[::-1]]


async def test_an_edit_has_them_too(engine: DiffusersImageEngine) -> None:
    edits = [replace(task(*adapters), input_images=(pictures.blank(),)) for adapters in ((), (A,))]
    drawn = [(await engine.generate(edit, lambda _: None)).pixels[0].tobytes() for edit in edits]
    assert drawn[0] != drawn[1]


async def test_a_scale_of_zero_changes_nothing(engine: DiffusersImageEngine) -> None:
    assert await draw(engine, Adapter(name=A.name, scale=0.0)) == await draw(engine)


async def test_one_that_is_not_configured_is_refused(engine: DiffusersImageEngine) -> None:
    with pytest.raises(UnsupportedParameter, match="no adapter 'other'"):
        await draw(engine, Adapter(name="other", scale=1.0))


def rename(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Some layers of a model that has more blocks."""
    return {key.replace("blocks.0.attn.to_q", "blocks.9.attn.to_q"): value for key, value in weights.items()}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda weights: {"weight": torch.zeros(1)}, "it holds no LoRA"),
        (lambda weights: {key: value[:, :3].contiguous() for key, value in weights.items()}, "size mismatch"),
        (rename, "the model lacks 2 of its layers, such as single_transformer_blocks.9.attn.to_q"),
        (lambda weights: {key.replace("blocks", "bricks"): value for key, value in weights.items()}, "does not fit"),
        (lambda weights: {key: value for key, value in weights.items() if "lora_A" in key}, "does not fit"),
    ],
    ids=["no-lora", "shapes", "other-layers", "another-model", "half"],
)
def test_a_file_that_does_not_fit_stops_the_start(
    spoil: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    reason: str,
    flux: str,
    files: dict[str, AdapterSettings],
    tmp_path: Path,
) -> None:
    path = tmp_path / "spoiled.safetensors"
    save_file(spoil(load_file(files[A.name].path)), path)
    settings = ImageSettings(model=flux, adapters={"spoiled": AdapterSettings(path=str(path))})
    with pytest.raises(ValueError, match=r"adapter 'spoiled' \(.*spoiled.safetensors\)") as raised:
        load(settings)
    assert reason in str(raised.value)


def test_a_file_that_is_missing_or_no_safetensors_stops_the_start(flux: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    settings = ImageSettings(model=flux, adapters={"a": AdapterSettings(path=str(path))})
    with pytest.raises(ValueError, match=r"the file '.*a.safetensors' does not exist"):
        load(settings)
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(ValueError, match="it is no safetensors file"):
        load(settings)


async def test_videos_have_adapters_too(tmp_path: Path) -> None:
    folder = demo.find("demo/wan-tiny")
    model = diffusers.WanTransformer3DModel.from_pretrained(folder, subfolder="transformer")
    path = write_adapter(tmp_path / "a.safetensors", model, 1)
    settings = VideoSettings(model=str(folder), adapters={"a": AdapterSettings(path=str(path))})
    engine = load(settings)
    few: dict[str, Any] = {"num_inference_steps": 1, "guidance_scale": 1.0}
    bare, adapted = [await film(engine, adapters=adapters, **few) for adapters in ((), (Adapter(name="a", scale=1.0),))]
    assert bare != adapted
    assert await film(engine, **few) == bare
    engine.close()
