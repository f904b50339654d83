"""Watches a running attempt at a job: heartbeats, progress, and whether it is still wanted.

Knows the job store and the replica's life, no engine and no media.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from serve_app.engines.base import Step
from serve_app.errors import Cancelled, ServeError, StorageFailed, Unavailable
from serve_app.jobs.attempt import Attempt
from serve_app.settings import JobSettings

logger = logging.getLogger(__name__)
T = TypeVar("T")

PROGRESS_S = 1.0
"""Progress is written at most this often."""


class Watch:
    """`leaving` is set when the replica is to give up its work."""

    def __init__(self, attempt: Attempt, settings: JobSettings, leaving: asyncio.Event) -> None:
        self._attempt = attempt
        self._settings = settings
        self._leaving = leaving
        self._progress = 0
        self._written = time.monotonic()

    def on_step(self, step: Step) -> None:
        self._progress = max(self._progress, 100 * step.step // max(step.total, 1))

    async def during(self, work: Callable[[], Coroutine[Any, Any, T]], *, stoppable: bool) -> T:
        """What `work` gives, with heartbeats going on beside it.

        Where it is `stoppable` and the job is cancelled or the replica must leave, `work` is cancelled and that raised.
        The attempt is ended at once, while stopping may take the engine a step, or all of them.
        """
        working = asyncio.create_task(work())
        # a separate task: a slow store does not delay the end, and a heartbeat is never cut off
        watching = asyncio.create_task(self._watch(working, stoppable))
        try:
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            if stoppable and not working.done() and (reason := watching.result()) is not None:
                working.cancel()
                await self._attempt.fail(reason)
                raise reason
            return await working
        finally:
            working.cancel()
            await asyncio.wait({working})

    async def _watch(self, working: asyncio.Task[T], stoppable: bool) -> ServeError | None:
        """Heartbeats until `working` ends; or, if it is stoppable, why it should be stopped."""
        while True:
            await asyncio.wait({working}, timeout=self._settings.cancel_poll_s)
            if working.done():
                return None
            try:
                if stoppable and (reason := await self._reason_to_stop()) is not None:
                    return reason
                if self._is_due() and not working.done():
                    self._written = time.monotonic()
                    await self._attempt.heartbeat(self._progress)
            except StorageFailed as error:
                logger.warning("attempt at %s: %s", self._attempt.task.id, error.message)

    async def _reason_to_stop(self) -> ServeError | None:
        if self._leaving.is_set():
            return Unavailable("The replica is shutting down; the job will run elsewhere.")
        if not await self._attempt.is_wanted():
            return Cancelled("The job was cancelled.")
        return None

    def _is_due(self) -> bool:
        since = time.monotonic() - self._written
        moved = self._progress > self._attempt.record.progress
        return since >= self._settings.heartbeat_s or (moved and since >= PROGRESS_S)
