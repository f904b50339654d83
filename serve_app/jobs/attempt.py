"""An attempt at a job. The replica that runs it is the only writer of its object."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from serve_app.errors import Cancelled, EngineDied, ServeError, StorageFailed, Unavailable
from serve_app.jobs.records import AttemptRecord, JobError, dumps, folder_of, is_runnable, request_key, result_keys
from serve_app.jobs.store import JobStore
from serve_app.retry import retry
from serve_app.storage.base import ObjectStore
from serve_app.tasks import VideoResult, VideoTask

logger = logging.getLogger(__name__)

RETRIED = (EngineDied, StorageFailed)
"""Errors after which another attempt may succeed."""
GIVES_WAY_S, LOOK_S = 2.0, 0.05
"""How long to wait for another replica that began the same attempt to give way, and how often to look."""
OUTAGE_S = 600.0
"""How long to keep trying to store the end of an attempt."""
MAX_MESSAGE_CHARS = 2000
"""Longer error messages are cut: they may hold a whole traceback, and every list of jobs reads them."""

T = TypeVar("T")


class Attempt:
    """One run of a job. It writes one record at a time, and none after the end."""

    def __init__(self, jobs: JobStore, record: AttemptRecord, task: VideoTask) -> None:
        self.task = task
        self.record = record
        self._jobs = jobs
        self._writing = asyncio.Lock()

    async def heartbeat(self, progress: int = 0) -> None:
        """Tells that this replica is still at work. Do not cancel it half-way: a late write would undo the end."""
        async with self._writing:
            if self.record.status == "in_progress":
                highest = max(self.record.progress, progress)
                await self._write(replace(self.record, beat_at=time.time(), progress=highest))

    async def complete(self, result: VideoResult) -> None:
        """Ends with a result. If the job was cancelled or deleted, removes the result and raises Cancelled."""
        if not await self._end(status="completed", progress=100, result=result):
            raise Cancelled("The job was cancelled.")

    async def fail(self, error: ServeError) -> None:
        """Ends without a result. Unavailable hands the job back: another attempt follows, and this one was no try."""
        if self.record.status != "in_progress":
            return
        logger.warning("attempt %d at %s: %s: %s", self.record.number, self.task.id, error.code, error.message)
        told = JobError(code=error.code, message=error.message[:MAX_MESSAGE_CHARS])
        counted = not isinstance(error, Unavailable)
        await self._end(status="failed", error=told, retry=not counted or isinstance(error, RETRIED), counted=counted)

    async def _end(self, **outcome: Any) -> bool:
        """Records the end, unless it is recorded. Whether the job is still wanted; if not, its result is removed."""
        now = time.time()
        async with self._writing:
            if self.record.status != "in_progress":
                return True
            ended = replace(self.record, beat_at=now, completed_at=now, **outcome)
            await patiently(lambda: self._write(ended))
            # after the write: either whoever deletes the job sees our object, or we see that the job is gone
            if not (wanted := await patiently(self.is_wanted)):
                await patiently(self._discard)
            return wanted

    async def is_wanted(self) -> bool:
        """Whether the job is still wanted: neither cancelled nor deleted."""
        return not await self._jobs.cancelled(self.task.caller, self.task.id)

    async def _discard(self) -> None:
        await self._jobs.store.delete(*result_keys(self.task.caller, self.task.id))
        if not await self._jobs.store.exists(request_key(self.task.caller, self.task.id)):
            await self._jobs.store.delete(self.record.key)

    async def _write(self, record: AttemptRecord) -> None:
        await self._jobs.store.put(self.record.key, dumps(record))
        self.record = record


async def start(jobs: JobStore, owner: str, job_id: str) -> Attempt | None:
    """Starts and records the next attempt. None if there is none to make.

    That is so if the job is finished, cancelled or gone, has had all its tries, or another replica works on it.
    """
    now = await jobs.now()
    objects = await jobs.find(owner, job_id)
    if objects is None or not is_runnable(objects, now, jobs.rules):
        return None
    number = objects.attempts[-1].number + 1 if objects.attempts else 1
    key = f"{folder_of(owner, job_id)}/attempts/{number:04d}-{secrets.token_hex(4)}.json"
    record = AttemptRecord(number=number, started_at=time.time(), beat_at=time.time(), key=key)
    await jobs.store.put(key, dumps(record))
    if await _came_second(jobs.store, key):
        await jobs.store.delete(key)
        return None
    return Attempt(jobs, record, objects.request.task)


async def _came_second(store: ObjectStore, key: str) -> bool:
    """Whether another replica began the same attempt at the same moment, and goes first: that is one try, not two.

    Each looks after it has written, so that of two at least one sees the other. The later by name gives way to what
    it sees. The earlier waits for that: another that stays was there before it, saw nobody, and goes first.
    """
    folder, _, mine = key.rpartition("/")
    same_number = mine.partition("-")[0] + "-"
    deadline = time.monotonic() + GIVES_WAY_S
    while True:
        names = await store.list_names(folder)
        others = [name for name in names if name.startswith(same_number) and name != mine]
        if not others:
            return False
        if min(others) < mine or time.monotonic() > deadline:
            return True
        await asyncio.sleep(LOOK_S)


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Repeats `call` until the store answers. Raises StorageFailed after OUTAGE_S."""

    def passes(error: Exception, wait_s: float) -> bool:
        if isinstance(error, StorageFailed):
            logger.warning("the store does not answer, trying again in %.1f s: %s", wait_s, error.message)
        return isinstance(error, StorageFailed)

    return await retry(call, passes, patience_s=OUTAGE_S)
