"""One generation of a replica: its turn at the engine, and what is recorded of it: ledger row, metrics and trace.

`Slot` knows who may use the engine, whether it is warm, and whether it is alive. Serve awaits the first `check_health`
before a replica counts as ready (`ReplicaBase.initialize` in ray/serve/_private/replica.py), so that is where the
engine is warmed up; the constructor, which loads it, stays an ordinary one on Serve's life-long user-loop thread.
`generation` records each generation, however it ends; no other code does. Knows no HTTP and stores no media.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from serve_app import scratch
from serve_app.engines.base import Engine
from serve_app.errors import EngineDied, ReplicaLeaving, ServeError, TimedOut
from serve_app.ledger import Ledger, Row
from serve_app.model_settings import ModelSettings
from serve_app.tasks import AnyTask, StoredObject, TextTask, Timing
from serve_app.telemetry import logs, metrics, tracing

E = TypeVar("E", bound=Engine)

COMPLETED = "completed"
CANCELLED = "cancelled"

# has its own column, is no parameter, or is too large for a row
_LEFT_OUT = frozenset(
    {"id", "caller", "model", "prompt", "messages", "seed", "num_inference_steps", "input_images", "mask"}
    | {"submitted_at", "traceparent", "negative_prompt", "fewer_tokens"}
)


@dataclass(slots=True)
class Turn:
    """One use of the engine, which worked in it for `engine_s`. `taken_at` is by the wall clock."""

    taken_at: float
    _model: ModelSettings
    _free: Callable[[], None] | None
    _note_death: Callable[[EngineDied], None]
    engine_s: float = 0.0

    @asynccontextmanager
    async def work(self) -> AsyncGenerator[None]:
        """In the block the engine works. TimedOut stops it at the time limit.

        Do not hold it across a `yield` of a generator: the timeout would hit its reader.
        """
        clock, limit_s = asyncio.get_running_loop().time, self._model.time_limit_s
        began = clock()
        timeout = asyncio.timeout_at(began + limit_s)
        try:
            async with timeout:
                yield
        except EngineDied as error:
            self._note_death(error)
            raise
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise TimedOut(f"The generation was stopped at its time limit of {limit_s:g} s.") from error
        finally:
            self.engine_s = clock() - began

    def end(self) -> None:
        """Lets the next one have the engine, sooner than at the end of the block that holds it."""
        if self._free is not None:
            self._free()
            self._free = None

    def timing(self, submitted_at: float) -> Timing:
        queue_s = max(0.0, self.taken_at - submitted_at) if submitted_at else 0.0
        return Timing(queue_s=queue_s, engine_s=self.engine_s, gpu_s=self.engine_s * self._model.gpus)


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
        turn = Turn(time.time(), self._model, self._free.release, self._note_death)
        try:
            self._check_alive()
            yield turn
        finally:
            turn.end()

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
                    card, took_s = self.engine.card, time.monotonic() - self._made
                    metrics.observe("start_seconds", took_s, kind=card.kind, model=card.model)
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


# --- the record -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Record:
    """Filled during a generation. If `outcome` is not set, the way the block ends decides it.

    `amounts` are what was made, by the names of metrics.
    """

    submitted_at: float
    turn: Turn | None = None
    encode_s: float = 0.0
    storage_s: float = 0.0
    steps: int = 0
    amounts: dict[str, int] = field(default_factory=dict[str, int])
    size: int = 0
    objects: tuple[StoredObject, ...] = ()
    outcome: str | None = None

    def stored(self, *objects: StoredObject) -> None:
        """Names what was stored; the first is the one that the row points to."""
        self.size = sum(stored.size for stored in objects)
        self.objects = objects

    @property
    def timing(self) -> Timing:
        timing = self.turn.timing(self.submitted_at) if self.turn else Timing()
        return replace(timing, encode_s=self.encode_s, storage_s=self.storage_s)


@contextmanager
def generation(deployment: str, task: AnyTask, ledger: Ledger) -> Generator[Record]:
    """Records the generation of the block when it ends, unless no engine began it."""
    record = Record(task.submitted_at)
    logs.current_traceparent.set(task.traceparent)  # so that every log line of this task carries it
    outcome: str | None = ServeError.code
    began_at = task.submitted_at or time.time()
    try:
        yield record
        outcome = COMPLETED
    except ReplicaLeaving:
        outcome = None  # the replica that runs it will record it
        raise
    except (asyncio.CancelledError, GeneratorExit):
        outcome = CANCELLED
        raise
    except ServeError as error:
        outcome = error.code
        raise
    finally:
        if outcome is not None:
            _note(deployment, task, ledger, record, began_at, record.outcome or outcome)


def _note(deployment: str, task: AnyTask, ledger: Ledger, record: Record, began_at: float, outcome: str) -> None:
    kind, steps, timing = task.kind, record.steps, record.timing
    ledger.add(_row(deployment, task, record, outcome))
    metrics.observe_generation(kind, task.model, timing, outcome, denoising_steps=steps, **record.amounts)
    tracing.trace_generation(kind, task.traceparent, timing, began_at, model=task.model, outcome=outcome, steps=steps)
    for stored in record.objects:
        metrics.add("media_bytes", stored.size, kind=kind, content_type=stored.content_type)


def _row(deployment: str, task: AnyTask, record: Record, outcome: str) -> Row:
    timing = record.timing
    return Row(
        time=time.time(),
        id=task.id,
        caller=task.caller,
        deployment=deployment,
        kind=task.kind,
        model=task.model,
        parameters=_parameters(task),
        prompt=_prompt(task),
        outcome=outcome,
        seed=task.seed,
        steps=record.steps,
        queue_s=timing.queue_s,
        engine_s=timing.engine_s,
        gpu_s=timing.gpu_s,
        bytes=record.size,
        key=record.objects[0].key if record.objects else None,
    )


def _parameters(task: AnyTask) -> dict[str, Any]:
    # vars() does not know slots; a shallow look is enough, and the messages are left out
    return {
        name: value
        for name in task.__dataclass_fields__
        if name not in _LEFT_OUT and (value := getattr(task, name)) not in (None, (), {})
    }


def _prompt(task: AnyTask) -> str:
    if isinstance(task, TextTask) and task.messages:
        return "\n".join(f"{message.role}: {message.content}" for message in task.messages)
    return task.prompt
