"""Seeded weights: the same numbers on every run of one machine, whatever else drew random numbers before."""

from __future__ import annotations

import math

import torch
from torch import nn


def draw(model: nn.Module, seed: int, gain: float = 1.0) -> None:
    """Fills matrices of `model` with normal numbers of deviation gain / sqrt(inputs), norms with 1, biases with 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                inputs = math.prod(parameter.shape[1:])
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * gain / math.sqrt(inputs))
            elif "norm" in name and name.endswith("weight"):
                parameter.fill_(1.0)
            else:
                parameter.zero_()
    model.eval()
