"""Reads the objects of jobs, and writes those of an ingress. Knows no HTTP, no replica and no engine."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import orjson

from serve_app.errors import JobNotFound, ObjectNotFound, StorageFailed
from serve_app.jobs import records
from serve_app.jobs.clock import StoreClock
from serve_app.jobs.records import AttemptRecord, Job, Objects, Request, cancel_key, folder_of, request_key
from serve_app.settings import Settings
from serve_app.storage.base import ObjectStore, gather
from serve_app.storage.names import is_made_here
from serve_app.tasks import VideoTask

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
"""How often `follow` reads all of a job."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    jobs: Sequence[Job]
    has_more: bool


class JobStore:
    """Jobs over an object store. Cheap to make; any number of processes may have one over the same store."""

    def __init__(self, store: ObjectStore, settings: Settings) -> None:
        self.store = store
        self.now = StoreClock(store).now
        self.rules = settings.jobs
        self.ttl_s = settings.media.ttl_s

    async def create(
        self, task: VideoTask, *, dispatcher: str, remixed_from: str | None = None, user: str | None = None
    ) -> Job:
        """Stores a new job durably under the task's caller and id (see `new_job_id`), in one write."""
        now = await self.now()
        request = Request(
            task=task,
            dispatcher=dispatcher,
            created_at=now,
            expires_at=now + self.ttl_s,
            remixed_from=remixed_from,
            user=user,
            owner=task.caller,
        )
        await self.store.put(request_key(task.caller, task.id), records.dumps(request))
        return records.job_of(Objects(request=request), now, self.rules)

    async def get(self, owner: str, job_id: str) -> Job:
        """The current job. Raises JobNotFound, also once it has expired."""
        now = await self._now_to_show()
        objects = await self.find(owner, job_id)
        if objects is None or objects.request.expires_at <= now:
            raise _no_job(job_id)
        return records.job_of(objects, now, self.rules)

    async def follow(self, job: Job) -> Job:
        """The current state of a job read before. While it runs, this takes one read of its attempt and no listing.

        A cancellation or another attempt is seen within LOOK_EVERY_S.
        """
        if job.finished or job.attempt_key is None or await self._now_to_show() - job.seen_at >= LOOK_EVERY_S:
            return await self.get(job.owner, job.id)
        attempt = await self._read(job.attempt_key, AttemptRecord)
        if attempt is None or attempt.status != "in_progress":
            return await self.get(job.owner, job.id)
        return replace(job, progress=max(job.progress, min(attempt.progress, 99)))

    async def list(
        self, owner: str, *, after: str | None = None, limit: int = 20, order: Literal["asc", "desc"] = "desc"
    ) -> Page:
        """A page of jobs by creation time. Reads only the jobs of the page and the next one."""
        ids = [name for name in await self.store.list_names(f"jobs/{owner}") if records.is_job_id(name)]
        if order == "desc":
            ids.reverse()
        if after is not None:
            # compares ids instead of searching: the page continues even after a deleted job
            ids = [id for id in ids if (id < after if order == "desc" else id > after)]
        jobs: list[Job] = []
        while ids and len(jobs) <= limit:
            wanted = limit + 1 - len(jobs)
            batch, ids = ids[:wanted], ids[wanted:]
            now = await self._now_to_show()
            found = await gather(batch, lambda id: self.find(owner, id))
            shown = [records.job_of(objects, now, self.rules) for objects in found if objects is not None]
            jobs += [job for job in shown if job.expires_at > now]
        return Page(jobs=jobs[:limit], has_more=len(jobs) > limit)

    async def cancel(self, owner: str, job_id: str) -> Job:
        """Marks the job as cancelled and returns its new state. A finished job stays as it is."""
        job = await self.get(owner, job_id)
        if job.finished:
            return job
        await self.store.put(cancel_key(owner, job_id), orjson.dumps({"at": time.time()}))
        # an attempt that completed in between may not have seen the cancellation
        await self.store.delete(*records.result_keys(owner, job_id))
        return await self.get(owner, job_id)

    async def delete(self, owner: str, job_id: str) -> None:
        """Removes record and files. A replica at work on it notices, stops and drops its result. Safe to repeat."""
        folder = folder_of(owner, job_id)
        if not records.is_job_id(job_id) or not await self._names(folder):
            raise _no_job(job_id)
        # the request first: then no attempt starts, and one that ends finds its job gone
        await self.store.delete(request_key(owner, job_id))
        # the files before the rest of the record: if this fails half-way, the next call still finds the record
        await self.store.delete(*records.result_keys(owner, job_id))
        await self.store.delete(*await self._names(folder))

    async def cancelled(self, owner: str, job_id: str) -> bool:
        """Whether the job was cancelled or deleted. Called often, so it avoids listings, which cost money.

        It looks twice for a missing record, because its answer throws a result away.
        """
        if await self.store.exists(cancel_key(owner, job_id)):
            return True
        request = request_key(owner, job_id)
        return not (await self.store.exists(request) or await self.store.exists(request))

    async def silent_attempt(self, owner: str, job_id: str) -> str | None:
        """The key of the job's newest attempt if no replica works on it any more, though it has not ended.

        None for a job that is gone or has no attempt. Raises StorageFailed.
        """
        now = await self.now()
        objects = await self.find(owner, job_id)
        if objects is None or not objects.attempts or not records.is_runnable(objects, now, self.rules):
            return None
        last = objects.attempts[-1]
        return last.key if last.status == "in_progress" else None

    # --- reading ---

    async def _now_to_show(self) -> float:
        """The time for answers. Falls back to this machine's clock, so that jobs can be read while writes fail."""
        try:
            return await self.now()
        except StorageFailed as error:
            logger.warning("jobs: shown by this machine's clock: %s", error.message)
            return time.time()

    async def find(self, owner: str, job_id: str) -> Objects | None:
        """Everything about one job, in two round trips (one for a job without attempts)."""
        if not records.is_job_id(job_id):
            return None
        folder = folder_of(owner, job_id)
        infos, request = await asyncio.gather(self.store.list(folder), self._read(request_key(owner, job_id), Request))
        if request is None:
            return None
        listed = [info for info in infos if info.key.startswith(f"{folder}/attempts/")]
        read = await asyncio.gather(*(self._read(info.key, AttemptRecord) for info in listed))
        # times are the store's: the clocks of those who wrote need not agree
        return Objects(
            request=request,
            attempts=[
                replace(attempt, beat_at=info.modified, key=info.key)
                for info, attempt in zip(listed, read, strict=True)
                if attempt is not None
            ],
            cancelled_at=next((info.modified for info in infos if info.key == cancel_key(owner, job_id)), None),
        )

    async def _names(self, folder: str) -> Sequence[str]:
        """The keys of a job's objects. Objects of others are left out."""
        return [info.key for info in await self.store.list(folder) if is_made_here(info.key)]

    async def _read(self, key: str, kind: type[R]) -> R | None:
        """None if the object is gone, which may happen between a listing and a read, or cannot be parsed."""
        try:
            return records.load(kind, await self.store.get(key))
        except ObjectNotFound:
            return None
        except ValueError as error:
            logger.error("jobs: %s is no record of ours and is left out: %s", key, error)
            return None


def _no_job(job_id: str) -> JobNotFound:
    return JobNotFound(f"There is no video '{job_id[:64]}'.")
