"""What the image training runs on: averaged weights, gradients shared among processes, a clock for its phases."""

# torch's operations on lists of tensors have no public names
# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def step_together(params: Sequence[Tensor], optimizers: Sequence[torch.optim.Optimizer]) -> Tensor:
    """Averages gradients over the processes, clips them to norm 1 and steps; the norm. A broken gradient is dropped."""
    grads = [param.grad for param in params if param.grad is not None]
    if world_size() > 1:
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        flat /= world_size()
        shared = [part.view_as(grad) for part, grad in zip(flat.split([g.numel() for g in grads]), grads, strict=True)]
        torch._foreach_copy_(grads, shared)
    norm = torch.nn.utils.get_total_norm(grads)
    sound = torch.isfinite(norm)
    factor = torch.where(sound, (1 / (norm + 1e-6)).clamp(max=1.0), torch.zeros_like(norm))
    for grad in grads:
        grad.nan_to_num_(0.0, 0.0, 0.0)
    torch._foreach_mul_(grads, factor)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return norm


class Average:
    """Exponential moving average of the weights of `modules`, which are `params`; `steps` counts its updates."""

    def __init__(self, modules: Sequence[nn.Module], decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.params: list[Tensor] = [param for module in modules for param in module.parameters()]
        self.mean = [param.detach().clone() for param in self.params]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (12 + self.steps))
        torch._foreach_lerp_(self.mean, self.params, 1 - decay)

    def state(self) -> dict[str, Any]:
        """What `resume` takes."""
        return {"mean": self.mean, "averaged": self.steps}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Goes on from a saved state, if there is one in it."""
        if "mean" in state:
            self.mean, self.steps = state["mean"], state["averaged"]

    @contextmanager
    def used(self) -> Generator[None]:
        """Has the averages in use for a while."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Puts the averages in use, and back at the next call."""
        kept = [param.detach().clone() for param in self.params]
        torch._foreach_copy_(self.params, self.mean)
        torch._foreach_copy_(self.mean, kept)


def rank() -> int:
    """This process among those that torchrun started."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def start_processes(device: str) -> torch.device:
    """Joins the other processes that torchrun started, if any; this one's device."""
    torch.backends.cuda.enable_cudnn_sdp(False)  # its backward pass broke on torch 2.11
    torch.set_float32_matmul_precision("high")
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.backends.cudnn.benchmark = True
    if world_size() > 1:
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return torch.device(device, torch.cuda.current_device()) if device == "cuda" else torch.device(device)


class Clock:
    """How much of a phase is done, from 0 to 1; all processes read the same, so that they take the same turns.

    Start it when all is compiled. The rest of this phase and the later ones share the time until `ends`, as
    time.monotonic counts: `share` is that of the whole phase, `later` that of all later ones.
    """

    EVERY = 10

    def __init__(self, done: float, share: float, later: float, ends: float, device: torch.device) -> None:
        self._began = self._saved = time.monotonic()
        rest = share * (1 - done)
        self._span = max(0.0, ends - self._began) * rest / max(1e-9, rest + later)
        self._before, self._device, self._steps = done, device, 0
        self.done = done
        self.save_due = False

    def tick(self, save_s: float) -> None:
        """Once a step: reads the clock every few steps. `save_due` says that the last save is `save_s` ago."""
        self.save_due = False
        if self._steps % self.EVERY == 0:
            now = time.monotonic()
            part = (now - self._began) / self._span if self._span else 1.0
            done = self._before + (1 - self._before) * part
            seen = torch.tensor([done, float(now - self._saved > save_s)], device=self._device)
            if world_size() > 1:
                dist.broadcast(seen, 0)
            self.done, self.save_due = min(1.0, float(seen[0])), bool(seen[1] > 0.5)
            if self.save_due:
                self._saved = now
        self._steps += 1
