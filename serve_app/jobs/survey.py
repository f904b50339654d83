"""The sweeper's view of the store: finds jobs that nobody will run, and removes expired jobs, media and bookkeeping.

The bucket or folder may hold other people's files too: only what has a name that this application makes is removed.
Removing may run twice, also at once: deleting what is gone is no error.
"""

import asyncio
import calendar
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import cache
from typing import NamedTuple

from serve_app.errors import JobNotFound, StorageFailed
from serve_app.jobs import records
from serve_app.jobs.lease import read_lease
from serve_app.jobs.records import Job
from serve_app.jobs.store import JobStore
from serve_app.storage.base import ObjectStore, gather
from serve_app.storage.names import DAY, is_made_here

logger = logging.getLogger(__name__)

DAY_S = 86400.0
PASSED_OVER = 16
"""How many unreadable jobs one sweep skips. With more, the store itself is failing."""


class Scan(NamedTuple):
    """The result of one scan: the number of jobs by status, and those that nobody looks after."""

    states: dict[str, int]
    orphans: list[Job]


class Survey:
    """Scans and expires jobs. Finished jobs never change, so each of them is read once."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self._store = jobs.store
        self._expires_at: dict[tuple[str, str], float] = {}
        """When finished jobs expire, by owner and id."""

    async def scan(self) -> Scan:
        """Looks at every job that has not finished."""

        @cache
        def lease(dispatcher: str) -> asyncio.Task[float | None]:
            return asyncio.ensure_future(read_lease(self._store, dispatcher))

        # taken before anything is read: a job that is read late in a long scan must not look silent
        now = await self._jobs.now()
        failures: list[str] = []
        every = [key async for key in self._every_job()]
        open_ = [key for key in every if key not in self._expires_at]
        states = Counter(finished=len(every) - len(open_))
        orphans: list[Job] = []

        async def look(key: tuple[str, str]) -> None:
            try:
                objects = await self._jobs.find(*key)
            except StorageFailed as error:
                self._pass_over(key, error, failures)
                return
            if objects is None:
                return
            job = records.job_of(objects, now, self._jobs.rules)
            states["finished" if job.finished else job.status] += 1
            if job.finished:
                self._expires_at[key] = job.expires_at
            elif records.is_orphan(objects, await lease(objects.request.dispatcher), now, self._jobs.rules):
                orphans.append(job)

        await gather(open_, look)
        for gone in self._expires_at.keys() - set(every):
            del self._expires_at[gone]
        return Scan(states, sorted(orphans, key=lambda job: job.id))

    async def expire(self, now: float) -> int:
        """Removes jobs past their `expires_at` with their files, and media, claims and leases past their time.

        Gives the number of jobs removed. Safe to run twice, also at once.
        """
        removed = 0
        failures: list[str] = []
        async for owner, job_id in self._every_job():
            try:
                if await self._is_expired(owner, job_id, now):
                    await self._jobs.delete(owner, job_id)
                    self._expires_at.pop((owner, job_id), None)
                    removed += 1
            except JobNotFound:
                continue
            except StorageFailed as error:
                self._pass_over((owner, job_id), error, failures)
        await _expire_media(self._store, now, self._jobs.ttl_s)
        await _expire_bookkeeping(self._store, now, self._jobs.ttl_s)
        return removed

    def _pass_over(self, key: tuple[str, str], error: StorageFailed, failures: list[str]) -> None:
        """Skips one unreadable job, so that it does not block all others."""
        failures.append(key[1])
        if len(failures) > PASSED_OVER:
            raise error
        logger.error("jobs: %s of %s is passed over: %s", key[1], key[0], error.message)

    async def _every_job(self) -> AsyncIterator[tuple[str, str]]:
        for owner in await self._store.list_names("jobs"):
            for job_id in await self._store.list_names(f"jobs/{owner}"):
                if records.is_job_id(job_id):
                    yield owner, job_id

    async def _is_expired(self, owner: str, job_id: str, now: float) -> bool:
        expires_at = self._expires_at.get((owner, job_id))
        if expires_at is None:
            objects = await self._jobs.find(owner, job_id)
            # without a readable request nobody can ask for the job either
            expires_at = objects.request.expires_at if objects else records.id_time(job_id) + self._jobs.ttl_s
        return expires_at <= now


async def _expire_media(store: ObjectStore, now: float, ttl_s: float) -> None:
    """Removes media older than `ttl_s`, except those of a job that still exists: they go with the job."""
    for owner in await store.list_names("media"):
        for day in await _days(store, f"media/{owner}"):
            if now - calendar.timegm(time.strptime(day, "%Y/%m/%d")) >= ttl_s:
                old = await _old(store, f"media/{owner}/{day}", now, ttl_s)
                await store.delete(*[key for key in old if not await _belongs_to_job(store, owner, key)])


async def _expire_bookkeeping(store: ObjectStore, now: float, ttl_s: float) -> None:
    """Removes claims of keys, leases of dispatchers and test objects when no job that they are of can be left."""
    ages = {"idempotency": ttl_s, "dispatchers": min(ttl_s, DAY_S), "clock": DAY_S, "probe": DAY_S}
    for folder, age_s in ages.items():
        await store.delete(*await _old(store, folder, now, age_s))


async def _old(store: ObjectStore, folder: str, now: float, age_s: float) -> list[str]:
    infos = await store.list(folder)
    return [info.key for info in infos if now - info.modified >= age_s and is_made_here(info.key)]


async def _days(store: ObjectStore, folder: str) -> list[str]:
    """The yyyy/mm/dd folders below `folder`. Others are not ours."""
    days: list[str] = []
    for year in await store.list_names(folder):
        for month in await store.list_names(f"{folder}/{year}"):
            days += [f"{year}/{month}/{day}" for day in await store.list_names(f"{folder}/{year}/{month}")]
    return [day for day in days if re.fullmatch(DAY, day)]


async def _belongs_to_job(store: ObjectStore, owner: str, key: str) -> bool:
    name = key.rsplit("/", 1)[-1]
    job_id = name.rsplit("-", 1)[0]
    return records.is_job_id(job_id) and await store.exists(f"jobs/{owner}/{job_id}/request.json")
