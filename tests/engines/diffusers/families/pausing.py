"""Stops a pipeline in its second or third step until a test has cancelled it: a busy machine runs no further."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from diffusers.models.modeling_utils import ModelMixin

from serve_app.engines.base import OnStep, Step

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


async def cancel_in_a_step(start: Callable[[OnStep], Coroutine[Any, Any, object]]) -> tuple[list[Step], int]:
    """Cancels what `start` begins after its first step: the steps that it told of, and the calls of its denoiser."""
    steps: list[Step] = []
    begun = asyncio.Event()

    def on_step(step: Step) -> None:
        steps.append(step)
        begun.set()

    with paused() as pause:
        working = asyncio.create_task(start(on_step))
        await begun.wait()
        working.cancel()
        for _ in range(10):  # the engine hears of it in one of the loop's next turns
            await asyncio.sleep(0)
        pause.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await working
    return steps, pause.calls
