"""Paints scenes in torch, many at once, on whatever device the sprites lie."""

from __future__ import annotations

import io
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from serve_app.demo.training.landscapes import FIELDS

SPRITE = 256
"""Pixels of a sprite's side."""
_LEVELS = ((140, math.inf), (70, 140), (0, 70))
"""Sizes in pixels at which a sprite is taken in full, in half, in quarter size."""


class Renderer:
    """Sprites on a device. Colours in them are premultiplied by alpha."""

    def __init__(self, sprites: Path, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._levels = _load_levels(sprites, self.device)
        self._stars = _draw_stars().to(self.device)

    @torch.no_grad()
    def paint(self, backgrounds: NDArray[np.float32], objects: NDArray[np.float32], side: int) -> Tensor:
        """(B, BACKGROUND) and (B, MOST_OBJECTS, OBJECT) to pictures (B, 3, side, side) of -1 to 1."""
        return self.paste(self.paint_backgrounds(backgrounds, side), objects).mul_(2).sub_(1)

    @torch.no_grad()
    def paint_backgrounds(self, backgrounds: NDArray[np.float32], side: int) -> Tensor:
        """(B, 3, side, side) of 0 to 1."""
        return _paint_backgrounds(torch.from_numpy(backgrounds).to(self.device), self._stars, side)

    @torch.no_grad()
    def paste(self, images: Tensor, objects: NDArray[np.float32]) -> Tensor:
        """Pastes sprites on pictures of 0 to 1, in place."""
        side = images.shape[-1]
        for layer in range(objects.shape[1]):
            rows = objects[:, layer]
            pixels = rows[:, 3] * side
            for level, (low, high) in enumerate(_LEVELS):
                chosen = np.nonzero((rows[:, 0] >= 0) & (pixels >= low) & (pixels < high))[0]
                if len(chosen):
                    self._paste_level(images, rows[chosen], chosen, level)
        return images.clamp_(0, 1)

    def _paste_level(self, images: Tensor, rows: NDArray[np.float32], chosen: NDArray[np.intp], level: int) -> None:
        theta = torch.from_numpy(_place(rows)).to(self.device)
        where = torch.from_numpy(chosen).to(self.device)
        sprites = self._levels[level][torch.from_numpy(rows[:, 0].astype(np.int64)).to(self.device)].float() / 255
        grid = F.affine_grid(theta, [len(rows), 4, *images.shape[-2:]], align_corners=False)
        pasted = F.grid_sample(sprites, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        images[where] = images[where] * (1 - pasted[:, 3:]) + pasted[:, :3]


def pixelate(images: Tensor, block: int = 8) -> Tensor:
    """Blocks of one colour each, of few colours; pictures of -1 to 1."""
    small = F.avg_pool2d(images, block)
    return F.interpolate((small * 4).round() / 4, scale_factor=block, mode="nearest")


def _place(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 2, 3): from places in the picture to places in the sprite."""
    size, tilt = rows[:, 3], rows[:, 5]
    mirror = np.where(rows[:, 4] > 0.5, -1.0, 1.0) / size
    x, y = rows[:, 1] * 2 - 1, rows[:, 2] * 2 - 1
    cos, sin = np.cos(tilt), np.sin(tilt)
    first = np.stack([mirror * cos, mirror * sin, -mirror * (cos * x + sin * y)], -1)
    second = np.stack([-sin / size, cos / size, (sin * x - cos * y) / size], -1)
    return np.stack([first, second], 1).astype(np.float32)


def _load_levels(path: Path, device: torch.device) -> list[Tensor]:
    with np.load(path) as packed:
        blob, ends = packed["blob"], packed["off"]

    def read(index: int) -> NDArray[np.uint8]:
        picture = Image.open(io.BytesIO(blob[ends[index] : ends[index + 1]].tobytes())).convert("RGBA")
        pixels = np.array(picture).astype(np.uint16)
        pixels[..., :3] = pixels[..., :3] * pixels[..., 3:] // 255
        return pixels.astype(np.uint8).transpose(2, 0, 1)

    with ThreadPoolExecutor(8) as pool:
        full = torch.from_numpy(np.stack(list(pool.map(read, range(len(ends) - 1))))).to(device)
    levels = [full]
    for _ in _LEVELS[1:]:
        halves = [F.avg_pool2d(part.float(), 2).add(0.5).clamp(0, 255).byte() for part in levels[-1].split(64)]
        levels.append(torch.cat(halves))
    return levels


def _draw_stars(count: int = 64, side: int = 512) -> Tensor:
    """(count, 1, side, side): night skies."""
    lot = torch.Generator().manual_seed(5)
    skies = torch.zeros(count, 1, side, side)
    around = torch.arange(-2, 3).float().square()
    distances = around[:, None] + around[None]
    for sky in skies:
        for _ in range(int(torch.randint(25, 70, (1,), generator=lot))):
            x, y = torch.randint(3, side - 3, (2,), generator=lot).tolist()
            light = float(torch.rand(1, generator=lot)) * 0.7 + 0.3
            spot = sky[0, y - 2 : y + 3, x - 2 : x + 3]
            spot.copy_(torch.maximum(spot, light * torch.exp(-distances / (1.2 + 1.4 * light))))
    return skies


def _paint_backgrounds(numbers: Tensor, stars: Tensor, side: int) -> Tensor:
    count = len(numbers)
    y = ((torch.arange(side, device=numbers.device) + 0.5) / side).view(1, 1, side, 1)
    x = y.view(1, 1, 1, side)

    def get(name: str, index: int) -> Tensor:
        return numbers[:, FIELDS[name].start + index].view(count, 1, 1, 1)

    def color(name: str, index: int = 0) -> Tensor:
        start = FIELDS[name].start + index
        return numbers[:, start : start + 3].view(count, 3, 1, 1)

    images = color("top") + (color("bottom") - color("top")) * (y / get("near", 0).clamp(max=1.0)).clamp(0, 1)
    images = images.expand(count, 3, side, side)
    sky = stars[numbers[:, FIELDS["stars"].start + 1].long()]
    if side < sky.shape[-1]:
        sky = F.adaptive_max_pool2d(sky, side)
    images = images + get("stars", 0) * sky * (1 - images)
    disc_x, disc_y, radius = get("disc", 0), get("disc", 1), get("disc", 2)
    distance = ((x - disc_x).square() + (y - disc_y).square()).sqrt()
    shown = (radius > 0).float()
    glow = shown * get("disc", 6) * torch.exp(-(distance / (2.6 * radius + 1e-4)).square())
    images = images + (color("disc", 3) - images) * glow
    images = images + (color("disc", 3) - images) * shown * ((radius - distance) * side / 1.5 + 0.5).clamp(0, 1)
    for name in ("far", "near"):
        top = get(name, 0)
        wave = torch.sin(math.tau * get(name, 2) * x + get(name, 3))
        jagged = torch.asin(wave.clamp(-0.9999, 0.9999)) * (2 / math.pi)
        line = top - get(name, 1) * torch.where(get(name, 4) > 0.5, jagged, wave)
        depth = ((y - line) / (1.02 - top).clamp(min=0.12)).clamp(0, 1)
        ground = color(name, 5) + (color(name, 8) - color(name, 5)) * depth
        if name == "near":
            ground = _ripple(ground, x, y, get, color, depth)
        images = images + (ground - images) * ((y - line) * side + 0.5).clamp(0, 1)
    images = images * (1 - get("vignette", 0) * 2 * ((x - 0.5).square() + (y - 0.5).square()))
    return images.clamp(0, 1)


def _ripple(ground: Tensor, x: Tensor, y: Tensor, get: Any, color: Any, depth: Tensor) -> Tensor:
    """Waves on water, and the sun that shines on it."""
    phase = get("near", 3)
    bent = y + 0.01 * torch.sin(math.tau * 1.6 * x + phase)
    ripple = torch.sin(math.tau * get("ripple", 1) * bent + 2.0 * torch.sin(9.0 * x + phase))
    ground = ground * (1 + get("ripple", 0) * ripple)
    width = get("disc", 2) * (0.5 + 1.2 * depth) + 1e-4
    glitter = 0.55 + 0.45 * torch.sin(math.tau * 26 * y)
    shine = get("shine", 0) * 0.6 * torch.exp(-((x - get("disc", 0)) / width).square()) * glitter
    return ground + (color("disc", 3) - ground) * shine
