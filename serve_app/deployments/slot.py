"""A replica's engine: who may use it, whether it is warm, and whether it is alive. Knows no storage
and no HTTP. Serve awaits the first `check_health` before a replica counts as ready
(`ReplicaBase.initialize` in ray/serve/_private/replica.py), so that is where the engine is warmed up; the constructor,
which loads it, stays an ordinary one on Serve's life-long user-loop thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from serve_app import demo, scratch
from serve_app.engines.base import Engine
from serve_app.errors import EngineDied, ReplicaLeaving, TimedOut
from serve_app.model_settings import (
    AdapterSettings,
    DiffusionSettings,
    ImageSettings,
    ModelSettings,
    TextSettings,
    VideoSettings,
)
from serve_app.tasks import Timing
from serve_app.telemetry import metrics

E = TypeVar("E", bound=Engine)
M = TypeVar("M", TextSettings, ImageSettings, VideoSettings)


def on_disk(model: M) -> M:
    """`model` with demo names replaced by their files."""
    changes: dict[str, Any] = {}
    if demo.is_demo(model.model):
        changes |= {"model": str(demo.find(model.model)), "served_name": model.id}
    if isinstance(model, DiffusionSettings):
        changes["adapters"] = {name: _adapter_on_disk(adapter) for name, adapter in model.adapters.items()}
    return model.model_copy(update=changes)


def _adapter_on_disk(adapter: AdapterSettings) -> AdapterSettings:
    if not demo.is_demo_file(adapter.path):
        return adapter
    return adapter.model_copy(update={"path": str(demo.find_file(adapter.path))})


@dataclass(slots=True)
class Turn:
    """One use of the engine: when it was taken, by the wall clock and by the monotonic one, and its GPUs."""

    taken_at: float
    began: float
    gpus: float
    _free: Callable[[], None] | None

    def end(self) -> None:
        """Lets the next one have the engine, sooner than at the end of the block that holds it."""
        if self._free is not None:
            self._free()
            self._free = None

    def timing(self, submitted_at: float, engine_s: float = 0.0) -> Timing:
        queue_s = max(0.0, self.taken_at - submitted_at) if submitted_at else 0.0
        return Timing(queue_s=queue_s, engine_s=engine_s, gpu_s=engine_s * self.gpus)

    @property
    def held_s(self) -> float:
        return time.monotonic() - self.began


class Slot(Generic[E]):
    """`width` generations at once; an engine that died is never asked again, and `on_death` is awaited beside.

    `probe` raises what the replica lacks beside its engine; it is awaited before the engine is warmed up.
    """

    def __init__(
        self,
        engine: E,
        model: ModelSettings,
        *,
        width: int = 1,
        probe: Callable[[], Awaitable[None]] | None = None,
        on_death: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        scratch.sweep()  # removes what a killed replica left
        self.engine = engine
        self._model = model
        self._free = asyncio.Semaphore(width)
        self._made = time.monotonic()
        self._warming = asyncio.Lock()
        self._warm = False
        self._died: EngineDied | None = None
        self._probe = probe
        self._on_death = on_death
        self._dying: asyncio.Future[None] | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[Turn]:
        """Waits for the engine and holds it until the block, or the turn, ends: then the device must be free again.

        Raises ReplicaLeaving where the engine has died before its turn came.
        """
        self._check_alive()
        await self._free.acquire()
        turn = Turn(time.time(), time.monotonic(), self._model.gpus, self._free.release)
        try:
            self._check_alive()
            yield turn
        finally:
            turn.end()

    def deadline(self) -> float:
        """The end of a generation that begins now, by the event loop's clock."""
        return asyncio.get_running_loop().time() + self._model.time_limit_s

    @asynccontextmanager
    async def until(self, deadline: float) -> AsyncGenerator[None]:
        """Stops the block, in which the engine works, at `deadline` with TimedOut.

        Do not hold it across a `yield` of a generator: the timeout would hit its reader.
        """
        timeout = asyncio.timeout_at(deadline)
        try:
            async with timeout:
                yield
        except EngineDied as error:
            self._note_death(error)
            raise
        except TimeoutError as error:
            if not timeout.expired():
                raise
            limit_s = self._model.time_limit_s
            raise TimedOut(f"The generation was stopped at its time limit of {limit_s:g} s.") from error

    async def check_health(self) -> None:
        """Warms the engine up at the first call. Raises when this replica cannot serve again."""
        self._check_alive()
        try:
            async with self._warming:
                if not self._warm:
                    if self._probe is not None:
                        await self._probe()
                    await self.engine.warm_up()
                    self._warm = True
                    metrics.observe_start(self.engine.card.kind, self.engine.card.model, time.monotonic() - self._made)
            await self.engine.check_health()
        except EngineDied as error:
            self._note_death(error)
            raise

    def close(self) -> None:
        self.engine.close()

    def _check_alive(self) -> None:
        if self._died is not None:
            raise ReplicaLeaving(f"The replica that was chosen is leaving: {self._died.message}", retry_after_s=1.0)

    def _note_death(self, error: EngineDied) -> None:
        if self._died is None:
            self._died = error
            if self._on_death is not None:
                self._dying = asyncio.ensure_future(self._on_death())
