"""Stops a pipeline in its second or third step until a test has cancelled it: a busy machine runs no further."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin

FREE_CALLS = 2
"""A step takes one call of the denoiser, or two where it is guided: the first step is over before the third call."""
LONGEST_S = 60


@dataclass
class Pause:
    calls: int = 0
    go_on: threading.Event = field(default_factory=threading.Event)


@contextmanager
def paused() -> Generator[Pause]:
    """Counts the calls of all denoisers; the third waits for `go_on`. A Transformer2DModel is a part of a UNet."""
    pause = Pause()

    def hook(module: torch.nn.Module, _: Any) -> None:
        if isinstance(module, ModelMixin) and not type(module).__name__.startswith(("Autoencoder", "Transformer2D")):
            pause.calls += 1
            if pause.calls > FREE_CALLS:
                pause.go_on.wait(LONGEST_S)

    handle = torch.nn.modules.module.register_module_forward_pre_hook(hook)
    try:
        yield pause
    finally:
        pause.go_on.set()
        handle.remove()
