"""Records each generation, however it ends: ledger row, metrics and trace. No other code does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from serve_app.errors import ReplicaLeaving, ServeError
from serve_app.ledger import Ledger, Row
from serve_app.tasks import AnyTask, StoredObject, TextTask, Timing
from serve_app.telemetry import logs, metrics, tracing

COMPLETED = "completed"
CANCELLED = "cancelled"

# has its own column, is no parameter, or is too large for a row
_LEFT_OUT = frozenset(
    {"id", "caller", "model", "prompt", "messages", "seed", "num_inference_steps", "input_images", "mask"}
    | {"submitted_at", "traceparent", "negative_prompt", "fewer_tokens"}
)


@dataclass(slots=True)
class Record:
    """Filled during a generation. If `outcome` is not set, the way the block ends decides it."""

    timing: Timing = field(default_factory=Timing)
    steps: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    pixels: int = 0
    frames: int = 0
    size: int = 0
    key: str | None = None
    objects: tuple[StoredObject, ...] = ()
    outcome: str | None = None

    def stored(self, *objects: StoredObject) -> None:
        """Names what was stored; the first is the one that the row points to."""
        self.key = objects[0].key
        self.size = sum(stored.size for stored in objects)
        self.objects = objects


@contextmanager
def generation(deployment: str, task: AnyTask, ledger: Ledger) -> Generator[Record]:
    """Records the generation of the block when it ends, unless no engine began it."""
    record = Record()
    logs.current_traceparent.set(task.traceparent)  # so that every log line of this task carries it
    outcome: str | None = COMPLETED
    began_at = task.submitted_at or time.time()
    try:
        yield record
    except ReplicaLeaving:
        outcome = None  # the replica that runs it will record it
        raise
    except (asyncio.CancelledError, GeneratorExit):
        outcome = CANCELLED
        raise
    except ServeError as error:
        outcome = error.code
        raise
    except BaseException:
        outcome = ServeError.code
        raise
    finally:
        if outcome is not None:
            _note(deployment, task, ledger, record, began_at, record.outcome or outcome)


def _note(deployment: str, task: AnyTask, ledger: Ledger, record: Record, began_at: float, outcome: str) -> None:
    kind = task.kind
    ledger.add(_row(deployment, task, record, outcome))
    metrics.observe_generation(
        kind,
        task.model,
        record.timing,
        outcome,
        denoising_steps=record.steps,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        pixels=record.pixels,
        frames=record.frames,
    )
    tracing.trace_generation(
        kind, task.traceparent, record.timing, began_at, model=task.model, outcome=outcome, steps=record.steps
    )
    for stored in record.objects:
        metrics.count_media(kind, stored.content_type, stored.size)


def _row(deployment: str, task: AnyTask, record: Record, outcome: str) -> Row:
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
        queue_s=record.timing.queue_s,
        engine_s=record.timing.engine_s,
        gpu_s=record.timing.gpu_s,
        bytes=record.size,
        key=record.key,
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
