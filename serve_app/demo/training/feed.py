"""Brings scenes to the training: processes that draw them by lot, and a store of encoded pictures that is renewed."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serve_app.demo.training.captions import CLIP_TOKENS, T5_TOKENS, Encoder
from serve_app.demo.training.scenes import Maker

CROWDED = 2.0
"""In place of an ease from 0 to 1: pictures full of things, for the autoencoder."""


@dataclass
class Batch:
    """Scenes as numbers; two captions each, and labels as of Scene.labels."""

    backgrounds: NDArray[np.float32]
    objects: NDArray[np.float32]
    t5: NDArray[np.int16]
    clip: NDArray[np.int16]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.backgrounds)


def make_batch(maker: Maker, encoder: Encoder, size: int, crowded: bool = False) -> Batch:
    """Draws scenes; crowded ones have no captions."""
    scenes = [maker.crowd() if crowded else maker.make() for _ in range(size)]
    if crowded:
        t5, clip = np.zeros((2 * size, T5_TOKENS), np.int16), np.zeros((2 * size, CLIP_TOKENS), np.int16)
    else:
        t5, clip = encoder.encode([caption for scene in scenes for caption in scene.captions])
    return Batch(
        np.stack([scene.background for scene in scenes]),
        np.stack([scene.objects() for scene in scenes]),
        t5.reshape(size, 2, -1),
        clip.reshape(size, 2, -1),
        np.array([scene.labels() for scene in scenes], np.int64),
    )


class Source(Protocol):
    """Where batches come from."""

    def set_ease(self, ease: float) -> None:
        """As of Maker.ease, or CROWDED; for what is drawn from now on."""
        ...

    def get(self) -> Batch:
        """The next batch."""
        ...

    def empty(self) -> None:
        """Throws away what was made at another ease."""
        ...


class Feed:
    """Processes that make batches of `size` scenes; start it before CUDA. They end with the one that started them."""

    def __init__(self, data: Path, seed: int, size: int, workers: int, everything: bool = False) -> None:
        context = multiprocessing.get_context("fork")
        self._queue: Any = context.Queue(maxsize=24)
        self._ease: Any = context.Value("d", CROWDED)
        for worker in range(workers):
            arguments = (data, seed * 1000 + worker, size, self._queue, self._ease, os.getpid(), everything)
            context.Process(target=_work, args=arguments, daemon=True).start()

    def set_ease(self, ease: float) -> None:
        self._ease.value = ease

    def get(self) -> Batch:
        return self._queue.get(timeout=60)

    def empty(self) -> None:
        for _ in range(32):
            self._queue.get(timeout=60)


def _work(data: Path, seed: int, size: int, batches: Any, ease: Any, parent: int, everything: bool) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    maker, encoder = Maker(seed, everything), Encoder(data)
    while os.getppid() == parent:
        crowded = ease.value == CROWDED
        maker.ease = 0.0 if crowded else ease.value
        batch = make_batch(maker, encoder, size, crowded)
        while os.getppid() == parent:
            try:
                batches.put(batch, timeout=5)
                break
            except queue.Full:
                continue


class Store:
    """The newest `count` pictures of the feed with their captions, as latents that `encode` makes of a batch."""

    def __init__(self, feed: Source, encode: Callable[[Batch], Tensor], count: int) -> None:
        self._feed, self._encode, self._count = feed, encode, count
        self._tensors: list[Tensor] = []
        self._at = 0
        self.full = 0

    @torch.no_grad()
    def renew(self) -> None:
        """Puts the next batch in place of the oldest pictures."""
        batch = self._feed.get()
        latents = self._encode(batch).bfloat16()
        t5, clip = (torch.from_numpy(ids).to(latents.device) for ids in (batch.t5, batch.clip))
        if not self._tensors:
            self._tensors = [part.new_zeros((self._count, *part.shape[1:])) for part in (latents, t5, clip)]
        where = torch.arange(self._at, self._at + len(batch), device=latents.device) % self._count
        for tensor, part in zip(self._tensors, (latents, t5, clip), strict=True):
            tensor[where] = part
        self._at = (self._at + len(batch)) % self._count
        self.full = min(self._count, self.full + len(batch))

    def sample(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents, T5's and CLIP's tokens of one of the two captions."""
        latents, t5, clip = self._tensors
        chosen = torch.randint(self.full, (size,), device=latents.device)
        caption = torch.randint(2, (size,), device=latents.device)
        return latents[chosen].float(), t5[chosen, caption].long(), clip[chosen, caption].long()
