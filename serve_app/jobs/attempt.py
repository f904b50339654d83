"""The pen of the replica that runs an attempt: the only writer of that attempt's object."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from serve_app.errors import Cancelled, StorageFailed
from serve_app.jobs.records import AttemptRecord, JobError, dumps
from serve_app.storage import ObjectStore
from serve_app.tasks import VideoResult, VideoTask

logger = logging.getLogger(__name__)

JSON = "application/json"
OUTAGE_S = 600.0
"""How long the end of an attempt is tried to be stored before it is given up."""
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
MAX_MESSAGE_CHARS = 2000
"""An engine's words may hold a whole traceback; every list of jobs reads them."""

T = TypeVar("T")


class Attempt:
    """One run of a job. Writes are in order, one at a time, and none follows the end."""

    def __init__(
        self,
        store: ObjectStore,
        key: str,
        record: AttemptRecord,
        task: VideoTask,
        is_wanted: Callable[[], Awaitable[bool]],
        discard: Callable[[], Awaitable[None]],
    ) -> None:
        self.task = task
        self.record = record
        self._store = store
        self._key = key
        self._is_wanted = is_wanted
        self._discard = discard
        self._writing = asyncio.Lock()

    @property
    def number(self) -> int:
        return self.record.number

    async def heartbeat(self, progress: int = 0) -> None:
        """Says that this replica is still at work. Not to be cancelled half-way: a late write would undo the end."""
        async with self._writing:
            if self.record.status == "in_progress":
                highest = max(self.record.progress, min(progress, 99))
                await self._write(replace(self.record, beat_at=time.time(), progress=highest))

    async def complete(self, result: VideoResult) -> None:
        """The end. Raises Cancelled, and removes the result, where the job was cancelled or deleted meanwhile."""
        now = time.time()
        ended = replace(self.record, status="completed", beat_at=now, completed_at=now, progress=100, result=result)
        async with self._writing:
            await patiently(lambda: self._write(ended))
            # after the write: whoever deletes the job either sees our object or has us see that the job is gone
            if not await patiently(self._is_wanted):
                await patiently(self._discard)
                raise Cancelled("The job was cancelled.")

    async def fail(self, code: str, message: str, *, retry: bool, counted: bool = True) -> None:
        """The end, without a result. With `retry` another attempt may follow; not `counted`, this one was no try.

        Does nothing where the end is stored already.
        """
        now = time.time()
        error = JobError(code=code, message=message[:MAX_MESSAGE_CHARS])
        async with self._writing:
            if self.record.status != "in_progress":
                return
            ended = replace(
                self.record, status="failed", beat_at=now, completed_at=now, error=error, retry=retry, counted=counted
            )
            await patiently(lambda: self._write(ended))
            if not await patiently(self._is_wanted):
                await patiently(self._discard)

    async def _write(self, record: AttemptRecord) -> None:
        await self._store.put(self._key, dumps(record), JSON)
        self.record = record


async def patiently(call: Callable[[], Awaitable[T]], *, outage_s: float = OUTAGE_S) -> T:
    """`call` again and again until the store takes it; raises StorageFailed after `outage_s` seconds."""
    deadline = time.monotonic() + outage_s
    pause = FIRST_PAUSE_S
    while True:
        try:
            return await call()
        except StorageFailed as error:
            if time.monotonic() + pause > deadline:
                raise
            logger.warning("the store does not answer, trying again in %.1f s: %s", pause, error.message)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
