"""Scenes as pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from serve_app.demo.training.landscapes import BACKGROUND, FIELDS
from serve_app.demo.training.render import SPRITE, Renderer, pixelate
from serve_app.demo.training.scenes import Maker, Placed, pack_objects
from serve_app.demo.training.things import PLACES, THINGS


@pytest.fixture
def renderer(tmp_path: Path) -> Renderer:
    """With one sprite, of the first thing: its left half is red, the right half green."""
    pixels = np.zeros((SPRITE, SPRITE, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[:, : SPRITE // 2, 0] = pixels[:, SPRITE // 2 :, 1] = 255
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "WEBP", lossless=True)
    blob = np.frombuffer(packed.getvalue(), np.uint8)
    np.savez(tmp_path / "sprites.npz", blob=blob, off=np.array([0, len(blob)]))
    return Renderer(tmp_path / "sprites.npz", "cpu")


def paint(renderer: Renderer, placed: Placed, side: int = 64) -> torch.Tensor:
    """(3, side, side) of 0 to 1, before blue."""
    background = np.zeros((1, BACKGROUND), np.float32)
    background[0, FIELDS["near"].start] = background[0, FIELDS["far"].start] = 3.0
    background[0, FIELDS["top"].start + 2] = background[0, FIELDS["bottom"].start + 2] = 1.0
    return (renderer.paint(background, pack_objects([placed])[None], side)[0] + 1) / 2


def test_a_thing_lies_where_it_is_placed(renderer: Renderer) -> None:
    picture = paint(renderer, Placed(THINGS[0], "noto", 0.25, 0.25, 0.5))
    assert picture[:, 16, 8].tolist() == pytest.approx([1, 0, 0], abs=0.02)
    assert picture[:, 16, 24].tolist() == pytest.approx([0, 1, 0], abs=0.02)
    assert picture[:, 48, 48].tolist() == pytest.approx([0, 0, 1], abs=0.02)


def test_a_flipped_thing_is_mirrored(renderer: Renderer) -> None:
    picture = paint(renderer, Placed(THINGS[0], "noto", 0.5, 0.5, 0.5, flipped=True))
    assert picture[:, 32, 24].tolist() == pytest.approx([0, 1, 0], abs=0.02)


def test_pictures_of_all_sizes_are_alike(renderer: Renderer) -> None:
    placed = Placed(THINGS[0], "noto", 0.5, 0.5, 0.6, tilt=0.2)
    small = paint(renderer, placed, 64)
    large = torch.nn.functional.avg_pool2d(paint(renderer, placed, 256), 4)
    assert (small - large).abs().mean() < 0.02


def test_every_place_can_be_painted_at_every_time(renderer: Renderer) -> None:
    maker = Maker(1)
    scenes = [maker.make_background(place, time) for place in PLACES for time in ("day", "sunset", "night")]
    nothing = np.stack([pack_objects([]) for _ in scenes])
    pictures = renderer.paint(np.stack([scene.background for scene in scenes]), nothing, 64)
    assert pictures.shape == (len(scenes), 3, 64, 64)
    assert torch.isfinite(pictures).all()
    assert pictures.abs().max() <= 1
    assert (pictures[1] - pictures[2]).abs().mean() > 0.2  # a sunset is no night


def test_pixel_art_has_blocks_of_few_colours() -> None:
    blocks = pixelate(torch.rand(1, 3, 64, 64) * 2 - 1)
    assert torch.equal(blocks[..., ::8, ::8].repeat_interleave(8, -1).repeat_interleave(8, -2), blocks)
    assert len(blocks.unique()) <= 9
