"""Reads and writes the objects of jobs. Knows no HTTP, no replica and no engine."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar

import orjson
from pydantic import TypeAdapter

from serve_app.errors import AlreadyExists, JobNotFound, ObjectNotFound, StorageFailed
from serve_app.jobs import records
from serve_app.jobs.attempt import JSON, Attempt
from serve_app.jobs.clock import StoreClock
from serve_app.jobs.expiry import expire_idempotency, expire_media, prune_dispatchers, remove_probes
from serve_app.jobs.records import AttemptRecord, Beat, Dispatch, Job, Objects, Request, Rules
from serve_app.settings import Settings
from serve_app.storage import ObjectInfo, ObjectStore, is_made_here
from serve_app.tasks import VideoTask

logger = logging.getLogger(__name__)

AT_ONCE = 16
"""How many jobs are read at the same time."""
PASSED_OVER = 16
"""How many jobs that cannot be read a sweep leaves for the next one; with more, it is the store that fails."""
GIVES_WAY_S, LOOK_S = 2.0, 0.05
"""How long a replica takes at the most to give way to another that began the same attempt, and how often that looks."""
LOOK_EVERY_S = 5.0
"""How often all of a job is read by who follows it."""
UNBORN_S = 60.0
"""How long after its claim a job may still be on its way into the store."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    jobs: Sequence[Job]
    has_more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who holds an idempotency key. `fresh`: we do, as of now, at `link`; else `job_id` and `fingerprint` are the
    holder's.
    """

    job_id: str
    fingerprint: str
    created_at: float
    fresh: bool = False
    link: str = ""


class Orphan(NamedTuple):
    """A job that no one looks after, and the id of the model that it waits for."""

    owner: str
    job_id: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What one look at every open job found: how many there are by status, and those that no one looks after."""

    states: dict[str, int]
    orphans: list[Orphan]


_CLAIM = TypeAdapter(Claim)


class JobStore:
    """Jobs over an object store. Cheap to make; any number of processes may have one over the same store."""

    def __init__(self, store: ObjectStore, settings: Settings) -> None:
        self._store = store
        self._ttl_s = settings.media.ttl_s
        self._rules = Rules(stale_s=settings.jobs.stale_s, max_attempts=settings.jobs.max_attempts)
        # finished jobs never change, so that a scan reads each once: (owner, id) -> expires_at. It alone adds to them,
        # since it alone forgets those that are gone.
        self._finished: dict[tuple[str, str], float] = {}
        self._clock = StoreClock(store)

    async def now(self) -> float:
        """The time by the store's clock, by which all ages are judged. Raises StorageFailed."""
        return await self._clock.now()

    # --- the ingress ---

    async def create(
        self,
        task: VideoTask,
        *,
        owner: str,
        dispatcher: str,
        remixed_from: str | None = None,
        user: str | None = None,
    ) -> Job:
        """Stores a new job, durably, under the id that `task` has (see `new_job_id`): one write."""
        now = await self.now()
        request = Request(
            task=task,
            owner=owner,
            dispatcher=dispatcher,
            created_at=now,
            expires_at=now + self._ttl_s,
            remixed_from=remixed_from,
            user=user,
        )
        await self._store.put(_request_key(owner, task.id), records.dumps(request), JSON)
        return records.job_of(Objects(request=request), now, self._rules)

    async def get(self, owner: str, job_id: str) -> Job:
        """The job as it stands. Raises JobNotFound, also from the moment on that it expires."""
        now = await self._now_to_show()
        job = self._job(await self._objects(owner, job_id), now)
        if job.expires_at <= now:
            raise JobNotFound(_no_job(job_id))
        return job

    async def follow(self, job: Job) -> Job:
        """A job that was read before, as it stands: while it runs, by one read of its attempt and no listing.

        What that does not tell, a cancellation or another attempt, is seen within LOOK_EVERY_S.
        """
        if job.finished or job.attempt_key is None or await self._now_to_show() - job.seen_at >= LOOK_EVERY_S:
            return await self.get(job.owner, job.id)
        attempt = self._parsed(job.attempt_key, await self._get(job.attempt_key), records.load_attempt)
        if attempt is None or attempt.status != "in_progress":
            return await self.get(job.owner, job.id)
        return replace(job, progress=max(job.progress, min(attempt.progress, 99)))

    async def list(
        self, owner: str, *, after: str | None = None, limit: int = 20, order: Literal["asc", "desc"] = "desc"
    ) -> Page:
        """A page of jobs by the time of their creation; reads the objects of no job beyond it but the next."""
        ids = [name for name in await self._store.list_names(f"jobs/{owner}") if records.is_job_id(name)]
        if order == "desc":
            ids.reverse()
        if after is not None:
            # by order, not by place: the page goes on after a job that was deleted meanwhile
            ids = [each for each in ids if (each < after if order == "desc" else each > after)]
        jobs: list[Job] = []
        while ids and len(jobs) <= limit:
            wanted = limit + 1 - len(jobs)
            batch, ids = ids[:wanted], ids[wanted:]
            now = await self._now_to_show()
            found = await _gather(batch, lambda each: self._found(owner, each))
            shown = [self._job(objects, now) for objects in found if objects is not None]
            jobs += [job for job in shown if job.expires_at > now]
        return Page(jobs=jobs[:limit], has_more=len(jobs) > limit)

    async def cancel(self, owner: str, job_id: str) -> Job:
        """Marks the job as cancelled and gives it as it then stands; a finished job stays as it is."""
        job = await self.get(owner, job_id)
        if job.finished:
            return job
        await self._store.put(_cancel_key(owner, job_id), orjson.dumps({"at": time.time()}), JSON)
        objects = await self._objects(owner, job_id)
        if any(attempt.status == "completed" for attempt in objects.attempts):
            # it ended in between, perhaps without having seen that it was cancelled
            await self._store.delete(*records.result_keys(owner, job_id))
        return self._job(objects, await self._now_to_show())

    async def delete(self, owner: str, job_id: str) -> None:
        """Removes record and files. A replica at work on it notices, stops and drops its result. Safe to repeat."""
        if not records.is_job_id(job_id):
            raise JobNotFound(_no_job(job_id))
        folder = _folder(owner, job_id)
        if not await self._names(folder):
            raise JobNotFound(_no_job(job_id))
        # the request first: from here on no attempt starts, and one that ends finds its job gone
        await self._store.delete(_request_key(owner, job_id))
        # the files before the rest of the record: where deleting fails half-way, the next call still finds something
        await self._store.delete(*records.result_keys(owner, job_id))
        await self._store.delete(*await self._names(folder))
        self._finished.pop((owner, job_id), None)

    async def claim(
        self,
        owner: str,
        key: str,
        fingerprint: str,
        job_id: str,
        *,
        failed: Callable[[Claim], Awaitable[bool]] | None = None,
    ) -> Claim:
        """Claims an idempotency key for `job_id`, or tells who holds it.

        A holder whose job has `failed` (by default: failed or deleted) is passed over: the next link of the chain is
        claimed, by create-if-absent again, so that of two retries one wins.
        """
        now = await self.now()
        mine = Claim(job_id=job_id, fingerprint=fingerprint, created_at=now)
        link = key
        jumped = False
        while True:
            name = _claim_key(owner, link)
            try:
                await self._store.put(name, orjson.dumps(mine), JSON, if_absent=True)
            except AlreadyExists:
                pass
            else:
                if link != key:
                    await self._note_newest(owner, key, link)
                return replace(mine, fresh=True, link=link)
            try:
                held = _CLAIM.validate_json(await self._store.get(name))
            except ObjectNotFound:
                continue  # expired between the two
            if not await (failed(held) if failed else self._has_failed(owner, held)):
                return held
            # a request that failed often has left a chain behind: from its first link straight to its newest
            link = _next_link(link, held) if jumped else await self._newest(owner, key) or _next_link(link, held)
            jumped = True

    async def _newest(self, owner: str, key: str) -> str | None:
        """The link of a key's chain that was claimed last, as far as was noted."""
        data = await self._get(_claim_key(owner, f"newest {key}"))
        return None if data is None else data.decode()

    async def _note_newest(self, owner: str, key: str, link: str) -> None:
        try:
            await self._store.put(_claim_key(owner, f"newest {key}"), link.encode(), JSON)
        except StorageFailed as error:  # the claim stands all the same; the next one walks a link further
            logger.warning("jobs: the newest claim of a key was not noted: %s", error.message)

    async def release(self, owner: str, key: str, claim: Claim) -> None:
        """Gives up a fresh claim whose work came to nothing, so that the next request may claim the key."""
        name = _claim_key(owner, claim.link or key)
        data = await self._get(name)
        if data is not None and _CLAIM.validate_json(data).job_id == claim.job_id:
            await self._store.delete(name)

    # --- dispatchers ---

    async def renew(self, dispatcher: str) -> None:
        """The heartbeat of a dispatcher: one object, however many jobs it looks after."""
        await self._store.put(_beat_key(dispatcher), records.dumps(Beat(beat_at=time.time())), JSON)

    async def resign(self, dispatcher: str) -> None:
        """Ends the lease of a dispatcher that goes: what it looked after is the sweeper's at once."""
        await self._store.put(_beat_key(dispatcher), records.dumps(Beat(beat_at=0.0)), JSON)

    async def dispatched(self, owner: str, job_id: str, dispatcher: str) -> None:
        """Records that `dispatcher` looks after the job from now on; "" gives it up to whoever sweeps next."""
        now = await self.now()
        name = f"{int(now * 1000):013d}-{secrets.token_hex(4)}.json"
        record = Dispatch(dispatcher=dispatcher, at=now)
        await self._store.put(f"{_folder(owner, job_id)}/dispatch/{name}", records.dumps(record), JSON)

    async def scan(self, *, own: str = "", held: Collection[tuple[str, str]] = ()) -> Scan:
        """Looks at every job that has not finished.

        `own` is the asking dispatcher and `held` the jobs that it has in hand: those are no orphans, and what is in
        its name but not in its hand is one.
        """
        beats: dict[str, asyncio.Task[float | None]] = {}

        def lease(dispatcher: str) -> asyncio.Task[float | None]:
            if dispatcher not in beats:
                beats[dispatcher] = asyncio.ensure_future(self._beat(dispatcher))
            return beats[dispatcher]

        # the time before anything is read: what is read late in a long scan must not look silent for it
        now = await self.now()
        unreadable: list[tuple[str, str]] = []

        async def look(each: tuple[str, str]) -> tuple[Job, bool] | None:
            try:
                objects = await self._found(*each)
            except StorageFailed as error:
                # one spoilt job must not keep all others from being run
                unreadable.append(each)
                if len(unreadable) > PASSED_OVER:
                    raise
                logger.error("jobs: %s of %s cannot be read: %s", each[1], each[0], error.message)
                return None
            if objects is None:
                return None
            job = self._job(objects, now)
            if job.finished:
                self._finished[each] = job.expires_at
            if job.finished or each in held:
                return job, False
            mine = bool(own) and objects.dispatcher == own
            lease_at = await lease(objects.dispatcher) if objects.dispatcher and not mine else now
            orphan = records.is_orphan(objects, lease_at, now, self._rules)
            return job, orphan or (mine and records.is_runnable(objects, now, self._rules))

        every = [each async for each in self._every_job()]
        known = [each for each in every if each not in self._finished]
        states = {"finished": len(every) - len(known)}
        orphans: list[Orphan] = []
        for seen in await _gather(known, look):
            if seen is None:
                continue
            job, orphan = seen
            states[job.status] = states.get(job.status, 0) + 1
            if orphan:
                orphans.append(Orphan(job.owner, job.id, job.task.model))
        self._forget_all_but(every)
        return Scan(states=states, orphans=sorted(orphans, key=lambda orphan: orphan.job_id))

    # --- the replica that runs a job ---

    async def start(self, owner: str, job_id: str) -> Attempt | None:
        """The next attempt, recorded as under way; None where there is none to make.

        That is: the job is finished, cancelled or gone, has had all its tries, or another replica is at work on it.
        """
        now = await self.now()
        try:
            objects = await self._objects(owner, job_id)
        except JobNotFound:
            return None
        if not records.is_runnable(objects, now, self._rules):
            return None
        number = objects.attempts[-1].number + 1 if objects.attempts else 1
        record = AttemptRecord(number=number, started_at=time.time(), beat_at=time.time())
        key = f"{_folder(owner, job_id)}/attempts/{number:04d}-{secrets.token_hex(4)}.json"

        async def is_wanted() -> bool:
            return not await self.cancelled(owner, job_id)

        async def discard() -> None:
            await self._store.delete(*records.result_keys(owner, job_id))
            if not await self._store.exists(_request_key(owner, job_id)):
                await self._store.delete(key)

        await self._store.put(key, records.dumps(record), JSON)
        if await self._came_second(key):
            await self._store.delete(key)
            return None
        return Attempt(self._store, key, record, objects.request.task, is_wanted, discard)

    async def _came_second(self, key: str) -> bool:
        """Whether another replica began the same attempt at the same moment, and goes first: that is one try, not two.

        Each looks after it has written, so that of two at least one sees the other. The later by name gives way to what
        it sees. The earlier waits for that: another that stays was there before it, saw nobody, and goes first.
        """
        folder, _, mine = key.rpartition("/")
        same_number = mine.partition("-")[0] + "-"
        deadline = time.monotonic() + GIVES_WAY_S
        while True:
            names = await self._store.list_names(folder)
            others = [name for name in names if name.startswith(same_number) and name != mine]
            if not others:
                return False
            if min(others) < mine or time.monotonic() > deadline:
                return True
            await asyncio.sleep(LOOK_S)

    async def cancelled(self, owner: str, job_id: str) -> bool:
        """Whether the job was cancelled or deleted. Asked all the while a job runs, so without a listing: those cost.

        That a record is gone is looked up twice: what follows is that a result is thrown away.
        """
        request = _request_key(owner, job_id)
        is_cancelled, is_there = await asyncio.gather(
            self._store.exists(_cancel_key(owner, job_id)), self._store.exists(request)
        )
        return is_cancelled or (not is_there and not await self._store.exists(request))

    # --- the sweeper ---

    async def expire(self, now: float) -> int:
        """Removes jobs past their `expires_at` with their files, and media, claims and leases past their time.

        Gives the number of jobs removed. Safe to run twice, also at once.
        """
        removed = failures = 0
        async for owner, job_id in self._every_job():
            try:
                if not await self._is_expired(owner, job_id, now):
                    continue
                await self.delete(owner, job_id)
            except JobNotFound:
                continue
            except StorageFailed as error:
                # one spoilt job must not keep all others for ever
                failures += 1
                if failures > PASSED_OVER:
                    raise
                logger.error("jobs: %s of %s has expired but stays: %s", job_id, owner, error.message)
                continue
            removed += 1
        await expire_media(self._store, now, self._ttl_s)
        await expire_idempotency(self._store, now, self._ttl_s)
        await prune_dispatchers(self._store, now, self._ttl_s)
        await remove_probes(self._store, now)
        return removed

    # --- reading ---

    async def _now_to_show(self) -> float:
        """For answers alone: what can be read is shown, also where nothing can be written."""
        try:
            return await self.now()
        except StorageFailed as error:
            logger.warning("jobs: shown by this machine's clock: %s", error.message)
            return time.time()

    async def _objects(self, owner: str, job_id: str) -> Objects:
        """Everything about one job, in two round trips (one for a job without attempts). Raises JobNotFound."""
        if not records.is_job_id(job_id):
            raise JobNotFound(_no_job(job_id))
        folder = _folder(owner, job_id)
        infos, data = await asyncio.gather(self._store.list(folder), self._get(_request_key(owner, job_id)))
        request = self._parsed(folder, data, records.load_request)
        if request is None:
            raise JobNotFound(_no_job(job_id))
        below = {info.key.removeprefix(f"{folder}/"): info for info in infos}
        attempts, dispatches = await asyncio.gather(
            self._read([info for name, info in below.items() if name.startswith("attempts/")], records.load_attempt),
            self._read([info for name, info in below.items() if name.startswith("dispatch/")], records.load_dispatch),
        )
        # times are the store's: the clocks of those who wrote need not agree
        taken_over = [replace(each, at=info.modified) for info, each in dispatches]
        newest = attempts[-1][0].key if attempts else None
        cancel = below.get("cancel.json")
        return Objects(
            request=request,
            attempts=[replace(each, beat_at=info.modified) for info, each in attempts],
            newest=newest,
            dispatches=sorted(taken_over, key=lambda each: each.at),
            cancelled_at=cancel.modified if cancel else None,
        )

    async def _names(self, folder: str) -> Sequence[str]:
        """The keys of a job's objects; what someone else put beside them is left alone."""
        return [info.key for info in await self._store.list(folder) if is_made_here(info.key)]

    async def _read(self, infos: Sequence[ObjectInfo], load: Callable[[bytes], T]) -> list[tuple[ObjectInfo, T]]:
        """The objects that are records, in order."""
        data = await asyncio.gather(*(self._get(info.key) for info in infos))
        parsed = [(info, self._parsed(info.key, each, load)) for info, each in zip(infos, data, strict=True)]
        return [(info, each) for info, each in parsed if each is not None]

    async def _get(self, key: str) -> bytes | None:
        """None for an object that is gone: between a listing and a read, that is no error."""
        try:
            return await self._store.get(key)
        except ObjectNotFound:
            return None

    def _parsed(self, key: str, data: bytes | None, load: Callable[[bytes], T]) -> T | None:
        if data is None:
            return None
        try:
            return load(data)
        except ValueError as error:
            logger.error("jobs: %s is no record of ours and is left out: %s", key, error)
            return None

    async def _found(self, owner: str, job_id: str) -> Objects | None:
        try:
            return await self._objects(owner, job_id)
        except JobNotFound:
            return None

    def _job(self, objects: Objects, now: float) -> Job:
        """The job as it stands; `now` is from before its objects were read."""
        return records.job_of(objects, now, self._rules)

    async def _every_job(self) -> AsyncIterator[tuple[str, str]]:
        for owner in await self._store.list_names("jobs"):
            for job_id in await self._store.list_names(f"jobs/{owner}"):
                if records.is_job_id(job_id):
                    yield owner, job_id

    async def _is_expired(self, owner: str, job_id: str, now: float) -> bool:
        expires_at = self._finished.get((owner, job_id))
        if expires_at is None:
            objects = await self._found(owner, job_id)
            # without a readable request no one can ask for it either
            expires_at = objects.request.expires_at if objects else records.id_time(job_id) + self._ttl_s
        return expires_at <= now

    async def _has_failed(self, owner: str, claim: Claim) -> bool:
        try:
            return (await self.get(owner, claim.job_id)).status == "failed"
        except JobNotFound:
            return await self.now() - claim.created_at > UNBORN_S

    async def _beat(self, dispatcher: str) -> float | None:
        """When the dispatcher was last heard of, by the store's clock; 0 where it has resigned."""
        key = _beat_key(dispatcher)
        beat = self._parsed(key, await self._get(key), records.load_beat)
        if beat is None:
            return None
        try:
            return (await self._store.stat(key)).modified if beat.beat_at else 0.0
        except ObjectNotFound:
            return None

    def _forget_all_but(self, present: list[tuple[str, str]]) -> None:
        for each in self._finished.keys() - set(present):
            del self._finished[each]


def _folder(owner: str, job_id: str) -> str:
    return f"jobs/{owner}/{job_id}"


def _request_key(owner: str, job_id: str) -> str:
    return f"{_folder(owner, job_id)}/request.json"


def _cancel_key(owner: str, job_id: str) -> str:
    return f"{_folder(owner, job_id)}/cancel.json"


def _beat_key(dispatcher: str) -> str:
    return f"dispatchers/{dispatcher}.json"


def _claim_key(owner: str, link: str) -> str:
    return f"idempotency/{owner}/{hashlib.sha256(link.encode()).hexdigest()}.json"


def _next_link(link: str, passed_over: Claim) -> str:
    return hashlib.sha256(f"{link}\n{passed_over.job_id}".encode()).hexdigest()


def _no_job(job_id: str) -> str:
    return f"There is no video '{job_id[:64]}'."


S = TypeVar("S")


async def _gather(items: Sequence[S], call: Callable[[S], Awaitable[T]]) -> Sequence[T]:
    """`call` of each item, AT_ONCE at a time, in order. Where one fails the others are given up."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(item: S) -> T:
        async with room:
            return await call(item)

    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(one(item)) for item in items]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from failed.exceptions[0].__cause__
    return [task.result() for task in running]
