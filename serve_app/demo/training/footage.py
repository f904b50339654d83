"""Brings clips to the training: processes that draw them by lot, a buffer of encoded ones, a sheet to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import WanPipeline
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from . import clips, wan

TOKENS = 32
PROMPTS = (
    "A curious raccoon exploring a garden",
    "a red car driving to the right on a road",
    "a cat walking to the left on the grass",
    "a rocket flying up in space",
    "a red ball bouncing on a beach",
    "an elephant coming closer in the desert",
    "a fish swimming to the right underwater",
    "a penguin moving away in the snow",
    "a dog and a rabbit meet in a meadow",
    "a sailboat sailing to the left at sea at sunset",
    "an apple falling on a blue background",
    "a balloon rising in the sky",
)


class Scenes(IterableDataset[tuple[list[clips.Clip], Tensor]]):
    """Endless batches of clips with the tokens of their captions; `frames` of each clip, from a random one on."""

    def __init__(self, tokenizer: Any, seed: int, size: int, frames: int) -> None:
        self.tokenizer, self.seed, self.size, self.frames = tokenizer, seed, size, frames

    def __iter__(self) -> Iterator[tuple[list[clips.Clip], Tensor]]:
        worker = torch.utils.data.get_worker_info()
        maker = clips.ClipMaker(self.seed * 1000 + (worker.id if worker else 0))
        while True:
            batch = [self._cut(maker) for _ in range(self.size)]
            yield batch, tokenize(self.tokenizer, [clip.caption for clip in batch])

    def _cut(self, maker: clips.ClipMaker) -> clips.Clip:
        clip = maker.clip()
        start = maker.random.randint(0, clips.FRAMES - self.frames)
        clip.camera = clip.camera[start : start + self.frames]
        for actor in clip.actors:
            actor.path = actor.path[start : start + self.frames]
        return clip


def tokenize(tokenizer: Any, captions: list[str]) -> Tensor:
    """(captions, TOKENS)."""
    return tokenizer(captions, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt").input_ids


class Buffer:
    """Encoded clips with the tokens of their captions; each new one takes the place of the oldest."""

    def __init__(self, count: int, frames: int, side: int, device: torch.device) -> None:
        shape = (count, wan.LATENTS, frames, side // 8, side // 8)
        self.latents = torch.zeros(shape, dtype=torch.bfloat16, device=device)
        self.ids = torch.zeros(count, TOKENS, dtype=torch.long, device=device)
        self.full = self.at = 0

    def add(self, latents: Tensor, ids: Tensor) -> None:
        """Takes in some, in place of the oldest."""
        places = (torch.arange(len(latents), device=ids.device) + self.at) % len(self.ids)
        self.latents[places], self.ids[places] = latents.bfloat16(), ids
        self.at = (self.at + len(latents)) % len(self.ids)
        self.full = min(len(self.ids), self.full + len(latents))

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """Latents and tokens of `count` of them, by lot."""
        places = torch.randint(self.full, (count,), device=self.ids.device)
        return self.latents[places].float(), self.ids[places]


def draw_clips(
    transformer: Any, vae: Any, words: Tensor, nothing: Tensor, side: int, frames: int, steps: int, guidance: float
) -> Tensor:
    """(prompts, 3, frames, side, side) of -1 to 1, for embeddings of prompts and of no words."""
    parts: dict[str, Any] = {"tokenizer": None, "text_encoder": None, "vae": vae, "scheduler": wan.make_scheduler()}
    pipeline: Any = WanPipeline(**parts, transformer=transformer, expand_timesteps=True)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        prompt_embeds=words,
        negative_prompt_embeds=nothing,
        height=side,
        width=side,
        num_frames=frames,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator("cpu").manual_seed(0),
        output_type="np",
    ).frames
    return torch.from_numpy(np.asarray(made)).permute(0, 4, 1, 2, 3) * 2 - 1


def write_film_sheet(videos: Tensor, path: Path) -> None:
    """Every fourth frame of each video (3, frames, H, W) of -1 to 1 in a row, at half their size."""
    rows = F.avg_pool2d(videos[:, :, ::4].float().cpu().transpose(1, 2).flatten(0, 1), 2).clamp(-1, 1)
    rows = ((rows + 1) * 127.5).round().byte().unflatten(0, (len(videos), -1))
    count, frames, _, height, width = rows.shape
    sheet = rows.permute(0, 3, 1, 4, 2).reshape(count * height, frames * width, 3)
    Image.fromarray(sheet.numpy()).save(path, quality=88)
