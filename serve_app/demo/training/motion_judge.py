"""Says which way the thing in a clip moves, from the pixels alone: where the frames change, and how that place moves.

`python -m serve_app.demo.training.motion_judge --model FOLDER` asks the checkpoint for held-out prompts and prints the
share whose motion is right; `--renderings` tries the judge on renderings instead. With `--judge`, the judge of pictures
says besides which thing the middle frames show.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import clips
from .judge import Judge, read_judge
from .stage import LABELS, Thing
from .things import BY_LABEL, THINGS

JUDGED = ("left", "right", "up", "down", "towards", "away", "bounce")
NOISE = 0.06
"""Changes of brightness below this, of 0 to 1, are the autoencoder's flicker."""


def trace(video: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre x and y, and spread, of what changes between frame and next frame; (frames, 3, H, W) of 0 to 1."""
    change = (video[1:] - video[:-1]).abs().amax(1)
    change = (change - NOISE).clamp(min=0)
    height, width = change.shape[-2:]
    weight = change / change.sum((1, 2), keepdim=True).clamp(min=1e-6)
    x = (torch.arange(width, device=video.device) + 0.5) / width
    y = (torch.arange(height, device=video.device) + 0.5) / height
    across, down = weight.sum(1), weight.sum(2)
    centre_x, centre_y = (across * x).sum(1), (down * y).sum(1)
    variance = (across * (x - centre_x[:, None]) ** 2).sum(1) + (down * (y - centre_y[:, None]) ** 2).sum(1)
    return centre_x, centre_y, variance.clamp(min=1e-6).sqrt()


def judge(video: Tensor) -> str:
    """One of JUDGED, or "still"."""
    moving = (video[1:] - video[:-1]).abs().amax(1).sub(NOISE).clamp(min=0).mean((1, 2))
    if moving.mean() < 1e-4:
        return "still"
    x, y, spread = trace(video)
    third = max(1, len(x) // 3)
    right = (x[-third:].mean() - x[:third].mean()).item()
    down = (y[-third:].mean() - y[:third].mean()).item()
    growth = (spread[-third:].mean() / spread[:third].mean()).log().item()
    swing = (y.max() - y.min()).item() - abs(down)
    scores = {
        "right": right,
        "left": -right,
        "down": down,
        "up": -down,
        "towards": 0.35 * growth,
        "away": -0.35 * growth,
        "bounce": 0.9 * swing,
    }
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] > 0.03 else "still"


@torch.no_grad()
def name_thing(looker: Judge, video: Tensor) -> str:
    """The label of the thing in the middle third of (frames, 3, H, W) of 0 to 1."""
    third = max(1, len(video) // 3)
    things, _, _ = looker(video[third : len(video) - third].float() * 2 - 1)
    return THINGS[int(things.mean(0).argmax())].label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--renderings", type=Path, help="the data folder")
    parser.add_argument("--judge", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    prompts = clips.ClipMaker(99).held_out_prompts(JUDGED, options.count)
    right: dict[str, list[bool]] = {motion: [] for motion in JUDGED}
    shown: list[Tensor] = []
    looker = read_judge(options.judge).to(options.device) if options.judge else None
    named: list[bool] = []
    film = _renderer(options) if options.renderings else _model(options)
    for prompt, thing, motion, scene in prompts:
        video = film(prompt, thing, motion, scene)
        said = judge(video)
        right[motion].append(said == motion)
        print(f"{'ok ' if said == motion else 'BAD'} {said:8s} {prompt}", flush=True)
        if looker is not None and thing.label in BY_LABEL:
            seen = name_thing(looker, video.to(options.device))
            named.append(seen == thing.label)
            if not named[-1]:
                print(f"    shows {seen}", flush=True)
        shown.append(video[::4, :, ::2, ::2].cpu())
    for motion, marks in right.items():
        print(f"{motion}: {sum(marks)} of {len(marks)}")
    everyone = [mark for marks in right.values() for mark in marks]
    print(f"motion right: {sum(everyone)} of {len(everyone)} = {100 * sum(everyone) / len(everyone):.0f} %")
    if named:
        print(f"thing right: {sum(named)} of {len(named)} = {100 * sum(named) / len(named):.0f} %")
    if options.sheet:
        rows = torch.stack(shown).clamp(0, 1).permute(0, 3, 1, 4, 2)
        count, height, frames, width, _ = rows.shape
        sheet = (rows.reshape(count * height, frames * width, 3) * 255).round().byte().numpy()
        Image.fromarray(sheet).save(options.sheet, quality=85)


def _renderer(options: argparse.Namespace) -> Any:
    from . import filming

    sprites = filming.Sprites(options.renderings, LABELS, torch.device(options.device))
    maker = clips.ClipMaker(7)

    def film(prompt: str, thing: Thing, motion: str, scene: str) -> Tensor:
        clip = maker.film(thing, scene, "day", motion)
        return (filming.film([clip], sprites, options.side)[0].transpose(0, 1) + 1) / 2

    return film


def _model(options: argparse.Namespace) -> Any:
    from diffusers import WanPipeline

    pipeline: Any = WanPipeline.from_pretrained(options.model, local_files_only=True, torch_dtype=torch.float32)
    pipeline.to(options.device)
    pipeline.set_progress_bar_config(disable=True)
    seeds = iter(range(1_000_000))

    def film(prompt: str, *_: object) -> Tensor:
        frames = pipeline(
            prompt=prompt,
            height=options.side,
            width=options.side,
            num_frames=clips.FRAMES,
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            max_sequence_length=pipeline.tokenizer.model_max_length,
            generator=torch.Generator("cpu").manual_seed(next(seeds)),
            output_type="np",
        ).frames[0]
        return torch.from_numpy(np.asarray(frames)).permute(0, 3, 1, 2)

    return film


if __name__ == "__main__":
    main()
