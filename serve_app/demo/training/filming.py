"""Renders clips in torch: sprites moved by affine grids over painted scenes, many clips at once, nothing on disk."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

from .clips import Actor, Clip, Color

ACTORS = 2
SPRITE = 128
WORLD = 2
"""Widths of a picture that a scene is wide."""


class Sprites:
    """Sprites by label as (4, SPRITE, SPRITE), colours multiplied by opacity; `small` ones of half the side."""

    def __init__(self, folder: Path, labels: frozenset[str], device: torch.device) -> None:
        concepts = json.loads((folder / "concepts.json").read_text())["concepts"]
        numbers = {concept["label"]: concept["sprites"]["noto"] for concept in concepts if concept["label"] in labels}
        packed = np.load(folder / "sprites.npz")
        self.index = {label: place for place, label in enumerate(sorted(labels))}
        pictures = [_read(packed, numbers[label]) for label in sorted(labels)]
        full = torch.stack(pictures).to(device)
        self.large = F.interpolate(full, (SPRITE, SPRITE), mode="area")
        self.small = F.interpolate(full, (SPRITE // 2, SPRITE // 2), mode="area")


def _read(packed: np.lib.npyio.NpzFile, number: int) -> Tensor:
    blob, start = packed["blob"], packed["off"]
    data = blob[start[number] : start[number + 1]].tobytes()
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"), dtype=np.float32) / 255
    pixels = np.concatenate([pixels[..., :3] * pixels[..., 3:], pixels[..., 3:]], -1)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def film(clips: list[Clip], sprites: Sprites, side: int) -> Tensor:
    """(clips, 3, frames, side, side) of -1 to 1."""
    device = sprites.large.device
    world = _paint(clips, side, device)
    for layer in range(max(len(clip.decor) for clip in clips)):
        present = [(row, clip.decor[layer]) for row, clip in enumerate(clips) if layer < len(clip.decor)]
        rows = torch.tensor([row for row, _ in present], device=device)
        ids = torch.tensor([sprites.index[label] for _, (label, *_) in present], device=device)
        places = torch.tensor([[x, y, size, 0.0] for _, (_, x, y, size) in present], device=device)
        world[rows] = _over(world[rows], sprites.small[ids], places, torch.zeros_like(places[:, 0]))
    frames = len(clips[0].camera)
    pictures = _look(world, torch.tensor([clip.camera for clip in clips], device=device), side)
    for layer in range(ACTORS):
        cast = [(row, clip.actors[layer]) for row, clip in enumerate(clips) if layer < len(clip.actors)]
        if cast:
            rows = torch.tensor([row for row, _ in cast], device=device)
            pictures[rows] = _play(pictures[rows], [actor for _, actor in cast], sprites, frames)
    return (pictures.transpose(1, 2) * 2 - 1).clamp(-1, 1)


def _play(pictures: Tensor, actors: list[Actor], sprites: Sprites, frames: int) -> Tensor:
    """Draws one actor over each row of (rows, frames, 3, side, side)."""
    device = pictures.device
    ids = torch.tensor([sprites.index[actor.label] for actor in actors], device=device).repeat_interleave(frames)
    paths = torch.tensor([actor.path for actor in actors], device=device).flatten(0, 1)
    flips = torch.tensor([float(actor.flip) for actor in actors], device=device).repeat_interleave(frames)
    return _over(pictures.flatten(0, 1), sprites.large[ids], paths, flips).view_as(pictures)


def _over(below: Tensor, sprites: Tensor, places: Tensor, flips: Tensor) -> Tensor:
    """Lays sprites over pictures; places are (x, y, size, angle) in shares of the picture's height."""
    height, width = below.shape[-2:]
    x, y, size, angle = places.unbind(1)
    ratio = width / height
    cos, sin, across = torch.cos(angle), torch.sin(angle), 1 - 2 * flips
    # from the picture's -1..1 to the sprite's: move the centre away, turn, divide by the size
    to_x, to_y = 2 * x - ratio, 2 * y - 1
    rows = [
        torch.stack([across * cos * ratio / size, across * sin / size, -across * (cos * to_x + sin * to_y) / size], 1),
        torch.stack([-sin * ratio / size, cos / size, (sin * to_x - cos * to_y) / size], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [len(below), 4, height, width], align_corners=False)
    drawn = F.grid_sample(sprites, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return below * (1 - drawn[:, 3:]) + drawn[:, :3]


def _look(world: Tensor, camera: Tensor, side: int) -> Tensor:
    """(clips, frames, 3, side, side): what the camera sees, from its left edge at `camera` pictures."""
    clips, frames = camera.shape
    rows = torch.zeros(clips, frames, 2, 3, device=world.device)
    rows[:, :, 0, 0] = 1 / WORLD
    rows[:, :, 0, 2] = (2 * camera + 1) / WORLD - 1
    rows[:, :, 1, 1] = 1
    grid = F.affine_grid(rows.flatten(0, 1), [clips * frames, 3, side, side], align_corners=False)
    views = F.grid_sample(world.repeat_interleave(frames, 0), grid, padding_mode="border", align_corners=False)
    return views.view(clips, frames, 3, side, side)


def _paint(clips: list[Clip], side: int, device: torch.device) -> Tensor:
    """(clips, 3, side, WORLD * side): sky, sun or moon, hills and ground."""

    def rgb(colors: list[Color]) -> Tensor:
        return torch.tensor(colors, device=device, dtype=torch.float32).view(-1, 3, 1, 1) / 255

    def number(values: list[float]) -> Tensor:
        return torch.tensor(values, device=device, dtype=torch.float32).view(-1, 1, 1, 1)

    y = ((torch.arange(side, device=device) + 0.5) / side).view(1, 1, side, 1)
    x = ((torch.arange(WORLD * side, device=device) + 0.5) / side).view(1, 1, 1, -1)
    horizon = number([clip.horizon for clip in clips])
    top, bottom = rgb([clip.sky[0] for clip in clips]), rgb([clip.sky[1] for clip in clips])
    world = top + (bottom - top) * (y / horizon.clamp(max=1)).clamp(max=1)
    world = world.expand(-1, -1, -1, WORLD * side)
    discs = [clip.disc or (0.0, 0.0, 0.0, (0, 0, 0)) for clip in clips]
    radius, color = number([disc[2] for disc in discs]), rgb([disc[3] for disc in discs])
    far = ((x - number([disc[0] for disc in discs])) ** 2 + (y - number([disc[1] for disc in discs])) ** 2).sqrt()
    glow = 0.35 * (radius > 0) * torch.exp(-((far / (2.5 * radius + 1e-4)) ** 2))
    disc = ((radius - far) * side / 1.5 + 0.5).clamp(0, 1) * (radius > 0)
    world = world + (color - world) * torch.maximum(glow, disc)
    high, waves, phase, spikes = (number([float(clip.hill_shape[part]) for clip in clips]) for part in range(4))
    wave = torch.sin(math.pi * waves * x + phase)
    ridge = torch.where(spikes > 0.5, torch.asin(wave.clamp(-0.999, 0.999)) * 2 / math.pi, wave)
    hills = number([1.0 if clip.hills else 0.0 for clip in clips])
    behind = rgb([clip.hills or (0, 0, 0) for clip in clips])
    world = world + (behind - world) * hills * ((y - horizon + 1.3 * high + high * ridge) * side + 0.5).clamp(0, 1)
    near, front = rgb([clip.ground[0] for clip in clips]), rgb([clip.ground[1] for clip in clips])
    depth = ((y - horizon) / (1 - horizon).clamp(min=0.1)).clamp(0, 1)
    ground = near + (front - near) * depth
    return world + (ground - world) * ((y - horizon) * side + 0.5).clamp(0, 1)
