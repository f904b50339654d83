"""Muon (Keller Jordan, https://kellerjordan.github.io/posts/muon): momentum whose step has singular values about 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from serve_app.demo.training.muon import orthogonalize

MOMENTUM = 0.95
DECAY = 0.05


class Muon:
    """For stacked weights (layers, out, in); `splits` says how many matrices lie on top of each other in `out`."""

    def __init__(self, weights: Mapping[str, Tensor], splits: Mapping[str, int], dtype: torch.dtype) -> None:
        self._weights, self._splits, self._dtype = weights, splits, dtype
        self.momentum = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    @property
    def parameters(self) -> Sequence[Tensor]:
        return list(self._weights.values())

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for name, weight in self._weights.items():
            momentum, gradient = self.momentum[name], weight.grad
            if gradient is None:
                continue
            momentum.lerp_(gradient, 1 - MOMENTUM)
            wanted = gradient.lerp(momentum, MOMENTUM)
            parts = wanted.reshape(-1, wanted.shape[-2] // self._splits.get(name, 1), wanted.shape[-1])
            change = orthogonalize(parts, self._dtype).reshape(weight.shape)
            scale = max(1.0, parts.shape[-2] / parts.shape[-1]) ** 0.5
            weight.mul_(1 - rate * DECAY).add_(change, alpha=-rate * scale)
