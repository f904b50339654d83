"""Muon (Keller Jordan, https://kellerjordan.github.io/posts/muon): momentum whose step has singular values about 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

MOMENTUM = 0.95
DECAY = 0.05
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(gradient: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest matrix with singular values about 1, for a stack of matrices, by Newton and Schulz."""
    x = gradient.to(dtype)
    wide = x.shape[-2] > x.shape[-1]
    x = x.mT if wide else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(5):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if wide else x).float()


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
