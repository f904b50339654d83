"""Convolutions over frames take the fast way, and give the same."""

from __future__ import annotations

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from serve_app.engines.diffusers.convolutions import use_onednn


@torch.no_grad()
def test_the_same_numbers_without_the_slow_way() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.Conv3d(8, 4, (1, 3, 3), stride=(1, 2, 2), bias=False))
    clip = torch.randn(1, 3, 5, 16, 16)
    before = layers(clip)
    use_onednn(layers)
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        after = layers(clip)
    assert torch.allclose(before, after, atol=1e-5)
    assert not [event.name for event in watched.events() or () if "slow_conv3d" in event.name]
    assert torch.allclose(layers.double()(clip.double()).float(), before, atol=1e-5)
