"""A model's client over its Ray Serve handle, for the ingress and the sweeper. One table turns Ray's errors into ours.
A request that a replica refused because its engine died is sent to another replica: see `stream`.

A handle's call is cancelled when ours is: Serve cancels the ingress's own task when the client goes away, and what the
router has not yet handed to a replica would otherwise still run.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from typing import Any, cast

from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle

from serve_app.errors import GenerationFailed, QueueFull, ReplicaLeaving, ServeError, Unavailable
from serve_app.tasks import ImageTask, ModelCard, TextTask

logger = logging.getLogger("serve_app.handles")

Handle = DeploymentHandle[Any]

ERRORS: tuple[tuple[type[Exception], type[ServeError], str], ...] = (
    (ActorUnavailableError, Unavailable, "The replica that ran this request cannot be reached. Send it again."),
    (RayActorError, GenerationFailed, "The replica that ran this request died. Another takes its place: send again."),
    (OutOfMemoryError, GenerationFailed, "The machine ran out of memory under this request."),
    (WorkerCrashedError, GenerationFailed, "The process that ran this request crashed. Send it again."),
    (ReplicaUnavailableError, Unavailable, "The replica chosen for this request is gone. Send it again."),
    (DeploymentUnavailableError, Unavailable, "The model failed to start."),
    (TaskCancelledError, Unavailable, "The server cancelled this request. Send it again."),
    (RayServeException, Unavailable, "The model cannot take this request now. Send it again."),
    (RayError, GenerationFailed, "The cluster failed this request. Send it again."),
)
"""The first matching class decides."""
RETRY_S = 1.0
LEAVING_S = 20.0
"""How long, from the first time, a request is handed on that replicas turn away because their engine died: one is gone
within seconds."""
PAUSE_S = 0.2
BEGUN_S = 0.5
"""If the replica died sooner than this, the request had hardly begun."""


def as_ours(error: Exception) -> Exception:
    """Our error for one of Ray's; an error of ours that crossed a handle comes out as it was raised."""
    if isinstance(error, RayTaskError):
        cause = cast("Exception", error.cause)
        if isinstance(cause, ServeError):
            return cause
        if not isinstance(cause, RayError | RayServeException):
            return cause  # a bug of ours, not Ray's error: the ingress logs it and answers 500
        error = cause
    if isinstance(error, BackPressureError):
        return QueueFull("Too many requests wait for this model. Retry later.", retry_after_s=error.retry_after_s)
    for theirs, ours, message in ERRORS:
        if isinstance(error, theirs):
            logger.warning("%s: %s", type(error).__name__, error)
            return ours(message, retry_after_s=RETRY_S if ours is Unavailable else None)
    return error


async def call(handle: Handle, *args: Any) -> Any:
    """The result of a unary call; cancelling this cancels the call."""
    async with aclosing(stream(handle, *args)) as results:
        return await anext(results)


async def stream(handle: Handle, *args: Any) -> AsyncGenerator[Any, None]:
    """The results of a streaming call, the only one of a unary call; closing this cancels the call.

    What no engine has begun is sent once more where that makes sense.
    """
    begun, deaths, deadline = False, 0, math.inf
    while True:
        sent = time.monotonic()
        try:
            async with aclosing(_stream(handle, *args)) as results:
                async for result in results:
                    begun = True
                    yield result
            return
        except ServeError as error:
            now = time.monotonic()
            if isinstance(error.__cause__, ActorDiedError):
                # either the replica was about to end, or this request killed it: a second try tells which
                deaths += 1
                again = now - sent < BEGUN_S and deaths == 1
            else:
                deadline = min(deadline, now + LEAVING_S)
                again = isinstance(error, ReplicaLeaving) and now < deadline
            if begun or not again:
                raise
        await asyncio.sleep(PAUSE_S)


async def _stream(handle: Handle, *args: Any) -> AsyncGenerator[Any, None]:
    response = handle.remote(*args)
    try:
        if isinstance(response, AsyncIterable):
            async for result in response:
                yield result
            return
        result = await response
    except Exception as error:
        raise as_ours(error) from error
    except (asyncio.CancelledError, GeneratorExit):
        response.cancel()
        raise
    yield result


class ModelHandle:
    """ModelClient over the handle of a model's deployment."""

    def __init__(self, handle: Handle) -> None:
        # binding a handle to a method costs about 20 us, so it is done once
        self._describe, self._generate, self._run = handle.describe, handle.generate, handle.run
        self._stream = handle.options(method_name="stream", stream=True)
        self._card: ModelCard | None = None

    async def describe(self) -> ModelCard:
        """What the model can do. Asked only once, because asking starts a deployment that is at zero replicas."""
        if self._card is None:
            self._card = cast("ModelCard", await call(self._describe))
        return self._card

    async def generate(self, task: TextTask | ImageTask) -> Any:
        return await call(self._generate, task)

    def stream(self, task: TextTask | ImageTask) -> AsyncGenerator[Any, None]:
        return stream(self._stream, task)

    async def run(self, owner: str, job_id: str) -> None:
        await call(self._run, owner, job_id)
