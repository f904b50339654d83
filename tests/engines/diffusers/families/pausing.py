"""Stops a pipeline in its second or third step until a test has left it: a busy machine runs no further."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from diffusers.models.modeling_utils import ModelMixin

from serve_app.engines.base import OnStep, Step
from serve_app.tasks import TextEvent

FREE_CALLS = 2
"""A step takes one call of the denoiser, or two where it is guided: the first step is over before the third call."""
LONGEST_S = 60


@dataclass
class Pause:
    calls: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)


@contextmanager
def paused() -> Generator[Pause]:
    """Counts the calls of all denoisers; the third waits for `go_on`."""
    pause = Pause()

    def hook(module: torch.nn.Module, _: Any) -> None:
        if _denoises(module):
            pause.calls += 1
            if pause.calls > FREE_CALLS:
                pause.reached.set()
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
    with paused() as pause:
        working = asyncio.create_task(start(steps.append))
        await asyncio.to_thread(pause.reached.wait, LONGEST_S)
        working.cancel()
        await _let_go(pause, working)
        with pytest.raises(asyncio.CancelledError):
            await working
    return steps, pause.calls


async def close_in_a_step(events: AsyncGenerator[TextEvent]) -> int:
    """Closes `events` in the third call of the model: how many it made."""
    with paused() as pause:
        await anext(events)
        await asyncio.to_thread(pause.reached.wait, LONGEST_S)
        closing = asyncio.create_task(events.aclose())
        await _let_go(pause, closing)
        await closing
    return pause.calls


async def _let_go(pause: Pause, leaving: asyncio.Task[Any]) -> None:
    for _ in range(10):  # the engine hears of it in one of the loop's next turns
        await asyncio.sleep(0)
    assert not leaving.done(), "whoever leaves waits until the engine is free"
    pause.go_on.set()


def _denoises(module: torch.nn.Module) -> bool:
    """A Transformer2DModel is a part of a UNet; what a text model is made of is named otherwise than the whole."""
    name = type(module).__name__
    if isinstance(module, ModelMixin):
        return not name.startswith(("Autoencoder", "Transformer2D"))
    return name.endswith(("ForMaskedLM", "ForBlockDiffusion"))
