"""Attempts at a job: how they begin, follow one another and end, as replicas and callers see it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import EngineDied, GenerationFailed, StorageFailed, Unavailable
from serve_app.jobs.attempt import MAX_MESSAGE_CHARS, start
from serve_app.jobs.records import AttemptRecord, dumps
from serve_app.jobs.store import JobStore
from serve_app.jobs.survey import Survey
from serve_app.settings import Settings
from serve_app.storage import open_store
from serve_app.storage.base import ObjectStore
from serve_app.storage.local import LocalStore
from serve_app.tasks import StoredObject
from tests.jobs.conftest import Create, impatient, lease, make_result, make_task, orphans, started


async def test_a_heartbeat_after_the_end_changes_nothing(jobs: JobStore, create: Create) -> None:
    job = await create()
    attempt = await started(jobs, job.id)
    await attempt.complete(make_result(job.task))
    await attempt.heartbeat(10)
    await attempt.fail(EngineDied("Late."))
    assert (await jobs.get("public", job.id)).status == "completed"


class Away(LocalStore):
    """Refuses as many writes of attempts as it is told, or holds one back until `go_on`."""

    refusals = 0
    holds = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        if "/attempts/" in key and self.holds:
            self.holds = False
            self.begun.set()
            await self.go_on.wait()
        if "/attempts/" in key and self.refusals:
            self.refusals -= 1
            raise StorageFailed("The store does not answer.")
        return await super().put(key, data, if_absent=if_absent)


async def test_a_heartbeat_that_the_store_takes_long_over_undoes_no_end(settings: Settings, tmp_path: Path) -> None:
    store = Away(tmp_path / "away")
    jobs = JobStore(store, settings)
    job = await jobs.create(make_task(), dispatcher="d1")
    attempt = await started(jobs, job.id)
    store.holds = True
    beating = asyncio.create_task(attempt.heartbeat(10))
    await store.begun.wait()
    ending = asyncio.create_task(attempt.complete(make_result(job.task)))
    await asyncio.wait([ending], timeout=0.3)
    store.go_on.set()
    await asyncio.gather(beating, ending)
    assert (await jobs.get("public", job.id)).status == "completed"


async def test_an_end_that_the_store_refuses_is_stored_later(settings: Settings, tmp_path: Path) -> None:
    store = Away(tmp_path / "away")
    jobs = JobStore(store, settings)
    job = await jobs.create(make_task(), dispatcher="d1")
    attempt = await started(jobs, job.id)
    store.refusals = 2
    await attempt.complete(make_result(job.task))
    assert (await jobs.get("public", job.id)).status == "completed"


async def test_an_engines_words_are_kept_only_so_long(jobs: JobStore, create: Create) -> None:
    job = await create()
    await (await started(jobs, job.id)).fail(GenerationFailed("x" * 100_000))
    failed = await jobs.get("public", job.id)
    assert failed.error is not None
    assert len(failed.error.message) == MAX_MESSAGE_CHARS


async def test_a_silent_attempt_is_followed_by_another(settings: Settings, jobs: JobStore, create: Create) -> None:
    job = await create()
    first = await started(jobs, job.id)
    assert await start(jobs, "public", job.id) is None
    await asyncio.sleep(0.1)
    second = await started(impatient(settings), job.id)
    assert (first.record.number, second.record.number) == (1, 2)
    # the first was only slow: two that complete are harmless
    await second.complete(make_result(job.task))
    await first.complete(make_result(job.task))
    assert (await jobs.get("public", job.id)).status == "completed"


async def test_at_most_three(jobs: JobStore, create: Create) -> None:
    job = await create()
    for _ in range(3):
        await (await started(jobs, job.id)).fail(EngineDied("The engine died."))
    assert await start(jobs, "public", job.id) is None
    found = await jobs.get("public", job.id)
    assert (found.status, found.attempts) == ("failed", 3)


async def test_one_that_could_not_store_its_result_is_followed_by_another(jobs: JobStore, create: Create) -> None:
    job = await create()
    await (await started(jobs, job.id)).fail(StorageFailed("The store does not answer."))
    assert (await jobs.get("public", job.id)).status == "queued"
    assert await start(jobs, "public", job.id) is not None


async def test_handing_back_costs_none(jobs: JobStore, create: Create) -> None:
    job = await create()
    for _ in range(5):
        await (await started(jobs, job.id)).fail(Unavailable("Leaving."))
    assert (await jobs.get("public", job.id)).status == "queued"
    assert await start(jobs, "public", job.id) is not None


async def test_two_replicas_that_begin_at_once_are_one_try(any_settings: Settings) -> None:
    replicas = [JobStore(open_store(any_settings), any_settings) for _ in range(4)]
    job = await replicas[0].create(make_task(), dispatcher="d1")
    attempts = [each for each in await asyncio.gather(*(start(one, "public", job.id) for one in replicas)) if each]
    assert len(attempts) == 1
    assert (await replicas[0].get("public", job.id)).attempts == 1
    await attempts[0].complete(make_result(job.task))
    assert (await replicas[0].get("public", job.id)).status == "completed"


async def test_a_replica_whose_record_comes_late_gives_way(
    any_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_store, store = open_store(any_settings), open_store(any_settings)
    put, about_to, may = slow_store.put, asyncio.Event(), asyncio.Event()

    async def late(*args: Any, **kwargs: Any) -> Any:
        about_to.set()
        await may.wait()
        return await put(*args, **kwargs)

    slow, quick = JobStore(slow_store, any_settings), JobStore(store, any_settings)
    job = await quick.create(make_task(), dispatcher="d1")
    await slow.now()
    monkeypatch.setattr(slow_store, "put", late)
    behind = asyncio.create_task(start(slow, "public", job.id))
    await about_to.wait()
    assert await start(quick, "public", job.id) is not None
    may.set()
    assert await behind is None
    assert (await quick.get("public", job.id)).attempts == 1


@pytest.mark.parametrize("wrong_by_s", [-3600.0, 3600.0])
async def test_a_replicas_clock_may_be_wrong(
    settings: Settings, jobs: JobStore, store: ObjectStore, create: Create, wrong_by_s: float
) -> None:
    job = await create()
    then = time.time() + wrong_by_s
    record = AttemptRecord(number=1, started_at=then, beat_at=then)
    await store.put(f"jobs/public/{job.id}/attempts/0001-aa.json", dumps(record))
    assert await start(jobs, "public", job.id) is None, "it is at work, and was heard of just now"
    await asyncio.sleep(0.1)
    assert await start(impatient(settings), "public", job.id) is not None, "it has not been heard of"


@pytest.mark.parametrize("ahead_s", [-100.0, 60.0, 100.0, 400.0])
async def test_a_readers_clock_may_be_wrong(
    settings: Settings, create: Create, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    rules = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"stale_s": 30.0})})
    replica = JobStore(open_store(rules), rules)
    job = await create()
    await lease(replica, "d1").renew()
    for _ in range(rules.jobs.max_attempts - 1):
        await (await started(replica, job.id)).fail(EngineDied("The engine died."))
    last = await started(replica, job.id)
    await last.heartbeat()
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + ahead_s)
    reader = JobStore(open_store(rules), rules)
    assert await start(reader, "public", job.id) is None, "it was heard of just now"
    assert await orphans(reader) == []
    assert (await reader.get("public", job.id)).status == "in_progress"
    assert await Survey(reader).expire(await reader.now()) == 0
    await lease(reader, "d2").renew()
    new = await reader.create(make_task(), dispatcher="d2")
    assert new.created_at == pytest.approx(true_time(), abs=5)
    assert await orphans(replica) == []


async def test_a_last_attempt_that_was_only_cut_off_ends_well(
    settings: Settings, jobs: JobStore, create: Create
) -> None:
    job = await create()
    for _ in range(2):
        await (await started(jobs, job.id)).fail(EngineDied("The engine died."))
    last = await started(jobs, job.id)
    await asyncio.sleep(0.1)
    short = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"stale_s": 0.05})})
    reader = JobStore(open_store(short), short)
    assert await start(reader, "public", job.id) is None, "a fourth try was made"
    await asyncio.sleep(0.1)
    assert (await reader.get("public", job.id)).error is not None
    await last.complete(make_result(job.task))
    assert (await reader.get("public", job.id)).status == "completed"
