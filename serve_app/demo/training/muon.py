"""Muon, momentum whose matrices are made orthogonal (https://kellerjordan.github.io/posts/muon/), beside AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """For matrices only; those of one shape are worked on at once."""

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float = 0.95, decay: float = 0.01) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes.setdefault(weight.shape, []).append(weight)
            for shape, weights in shapes.items():
                gradient = torch.stack([weight.grad for weight in weights if weight.grad is not None]).float()
                state = self.state[weights[0]]
                momentum = state.setdefault("momentum", torch.zeros_like(gradient))
                momentum.lerp_(gradient, 1 - group["momentum"])
                dtype = torch.bfloat16 if gradient.is_cuda else gradient.dtype
                change = orthogonalize(gradient.lerp(momentum, group["momentum"]), dtype)
                torch._foreach_mul_(weights, 1 - group["lr"] * group["decay"])  # pyright: ignore[reportPrivateUsage]
                change = list(change * (0.2 * math.sqrt(max(shape))))
                torch._foreach_add_(weights, change, alpha=-group["lr"])  # pyright: ignore[reportPrivateUsage]


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Five Newton-Schulz steps in `dtype` towards the nearest orthogonal matrices, in float32."""
    x = matrices.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).float()


def make_optimizers(modules: Sequence[nn.Module], lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside of blocks, AdamW for the rest."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in modules:
        for name, param in module.named_parameters():
            inside = any(part in name for part in ("blocks.", ".block.", "layers.", "to_q", "ffn."))
            wanted = inside and param.ndim == 2 and not any(part in name for part in ("norm", "relative", "embed"))
            (matrices if wanted else others).append(param)
    fused = others[0].is_cuda
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=lr * 0.6, betas=(0.9, 0.95), weight_decay=0.0, fused=fused)
    ]
    if matrices:
        optimizers.append(Muon(matrices, lr))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def set_rate(optimizers: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """Sets the learning rates to this share of their peaks."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
