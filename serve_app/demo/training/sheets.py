"""What a training leaves to look at: a contact sheet of prompts, and a folder packed in parts."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

PROMPTS = (
    "a red apple on a blue background",
    "A sunset over the ocean",
    "A curious raccoon exploring a garden",
    "a rocket in space",
    "two frogs on a green background",
    "a cat",
    "a dog in the snow",
    "a red car on a street",
    "a pizza on a wooden table",
    "a smiling face",
    "a house at night",
    "a sailboat on the sea at sunset",
    "an elephant in the desert",
    "a rose",
    "a robot on a yellow background",
    "three bananas",
    "a cat and a dog",
    "a castle in the mountains",
    "an astronaut in space",
    "a bicycle, flat style",
    "a slice of watermelon, 3d",
    "a penguin on the left in the snow",
    "a butterfly in a garden",
    "a small tree on a green hill",
)
PART = 15 << 20
"""Bytes of a part, so that it fits through a small door."""


def write_sheet(images: Tensor, path: Path, columns: int = 8) -> None:
    """Pictures (N, 3, H, W) of -1 to 1, in rows."""
    pixels = ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    blank = np.full((-len(pixels) % columns, *pixels.shape[1:]), 255, np.uint8)
    pixels = np.concatenate([pixels, blank])
    rows = [np.concatenate(list(pixels[start : start + columns]), 1) for start in range(0, len(pixels), columns)]
    Image.fromarray(np.concatenate(rows)).save(path)


def write_parts(folder: Path, out: Path) -> None:
    """A tar of the folder, in parts beside each other in `out`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        tar.add(folder, folder.name)
    whole = packed.getvalue()
    for part, start in enumerate(range(0, len(whole), PART)):
        path = out / f"{folder.name}.tgz.{part}"
        path.with_suffix(".new").write_bytes(whole[start : start + PART])
        path.with_suffix(".new").replace(path)
