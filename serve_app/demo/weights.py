"""Seeded weights: the same numbers on every run of one machine, whatever else drew random numbers before.

`draw` fills a model with noise; the rest builds the few matrices that make a demo's picture look like something.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

LATENTS = 16
"""Channels of a latent picture, for images and videos alike."""

PATCH = 4
"""Places of a 2x2 patch of latents, which the transformers take as one token."""


def draw(model: nn.Module, seed: int, gain: float = 1.0) -> None:
    """Fills matrices of `model` with normal numbers of deviation gain / sqrt(inputs), norms with 1, biases with 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(1.0)
            elif parameter.ndim >= 2:
                inputs = math.prod(parameter.shape[1:])
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * gain / math.sqrt(inputs))
            elif "norm" in name and name.endswith("weight"):
                parameter.fill_(1.0)
            else:
                parameter.zero_()
    model.eval()


def noise(seed: int, *shape: int) -> Tensor:
    """Normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def orthonormal(seed: int, rows: int, columns: int) -> Tensor:
    """(rows, columns) with orthonormal columns, or rows where there are fewer of them."""
    square = torch.linalg.qr(noise(seed, max(rows, columns), min(rows, columns)).double()).Q.float()
    return square if rows >= columns else square.T.contiguous()


def centered(seed: int, rows: int, columns: int) -> Tensor:
    """(rows, columns) with orthonormal columns of mean 0, which subtracting the mean leaves as they are."""
    ones = torch.ones(rows, 1)
    return torch.linalg.qr(torch.cat([ones, noise(seed, rows, columns)], dim=1).double()).Q[:, 1:].float()


def flat_patches() -> Tensor:
    """(64, 16): a latent pixel to a patch of four equal ones, laid out channel first; orthonormal columns."""
    return torch.kron(torch.eye(LATENTS), torch.ones(PATCH, 1) / math.sqrt(PATCH))


def fill(layer: Any, weight: Tensor | float, bias: Tensor | float = 0.0) -> None:
    """Sets weight and bias of a layer."""
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight).expand(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(torch.as_tensor(bias).expand(layer.bias.shape))


def look_back(biases: Iterable[Any]) -> None:
    """Makes head k of T5 attention look at the character k + 1 places before, so that the order of letters matters.

    `biases` are the tables (buckets, heads) of relative positions.
    """
    for table in biases:
        with torch.no_grad():
            table.weight.fill_(-50.0)
            for head in range(table.weight.shape[1]):
                table.weight[head + 1, head] = 50.0


# --- an autoencoder whose colours come back --------------------------------------------------------------------------
#
# Inside, a colour c travels as the channels c and -c beside a large constant K and -K. The constant makes what the
# normalization before the output divides by independent of the picture, and silu(c) - silu(-c) is exactly c.

COLORS = 3
CHANNELS = 8
CONSTANT = 30.0
NORMALIZED = 2.0 / CONSTANT
"""What the normalization over CHANNELS multiplies a colour with."""


def palette(seed: int) -> Tensor:
    """(3, 16) with orthonormal rows: latents to colours; its transpose leads back."""
    return orthonormal(seed, COLORS, LATENTS)


def paired(rows: Tensor) -> Tensor:
    """(3, n) weights of the colours to (8, n) of the channels: c, -c for each colour, and nothing for K and -K."""
    signed = torch.stack([rows, -rows], dim=1).flatten(0, 1)
    return torch.cat([signed, torch.zeros(CHANNELS - 2 * COLORS, rows.shape[1])])


def paired_bias() -> Tensor:
    """(8,): K and -K in the last two channels."""
    return torch.tensor([0.0] * (2 * COLORS) + [CONSTANT, -CONSTANT])


def unpaired(columns: Tensor) -> Tensor:
    """(n, 3) weights of the colours to (n, 8) of the normalized and activated channels."""
    signed = torch.stack([columns, -columns], dim=2).flatten(1, 2) / NORMALIZED
    return torch.cat([signed, torch.zeros(columns.shape[0], CHANNELS - 2 * COLORS)], dim=1)


def pass_through(model: nn.Module, kinds: tuple[str, ...]) -> None:
    """Silences the branch of every residual block, by its last layers' names, so that the block passes all on."""
    for name, module in model.named_modules():
        if name.endswith(kinds):
            fill(module, 0.0)
