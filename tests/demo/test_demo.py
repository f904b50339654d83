"""The demo checkpoints as they lie in the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app import demo

MEGABYTE = 1024 * 1024


def test_names() -> None:
    assert demo.NAMES == ("demo/llada2-tiny", "demo/flux-tiny", "demo/wan-tiny")
    assert demo.is_demo("demo/flux-tiny")
    assert not demo.is_demo("flux-tiny")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match="the demo models are demo/llada2-tiny"):
        demo.find("demo/sora")


@pytest.mark.parametrize("name", demo.NAMES)
def test_each_is_small_and_has_a_card(name: str) -> None:
    folder = demo.find(name)
    assert folder.is_relative_to(Path(demo.__file__).parent)
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 20 * MEGABYTE
    assert (folder / "README.md").read_text().startswith(f"# {name}\n")


def test_the_adapter_of_the_image_model_lies_beside_it() -> None:
    path = "demo/flux-tiny/pixel-art.safetensors"
    assert Path(demo.find_file(path)).stat().st_size < MEGABYTE
    assert demo.find_file("someone/flux-tiny/pixel-art.safetensors") == "someone/flux-tiny/pixel-art.safetensors"
    with pytest.raises(ValueError, match=r"'demo/flux-tiny' has no file 'sketch\.safetensors'"):
        demo.find_file("demo/flux-tiny/sketch.safetensors")
