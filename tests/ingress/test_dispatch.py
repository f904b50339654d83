"""What becomes of a job whose replica falls silent while nobody can tell that it is gone: the head is away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.errors import StorageFailed
from serve_app.ingress.dispatch import Dispatcher
from serve_app.ingress.services import AnyServed
from serve_app.jobs.attempt import start
from serve_app.jobs.store import JobStore
from serve_app.settings import Settings, resolve
from serve_app.storage import open_store
from serve_app.storage.base import ObjectInfo
from serve_app.storage.local import LocalStore
from serve_app.tasks import StoredObject, Timing
from tests.jobs.conftest import VideoClient, make_result, make_task

STALE_S = 0.3
DEADLINE_S = 60


class Replicas(VideoClient):
    """The first begins an attempt and is heard of no more; its call is never answered. The next finishes the job,
    once `free` is set."""

    def __init__(self, jobs: JobStore) -> None:
        self.calls = self.given_up = 0
        self.free = asyncio.Event()
        self._jobs = jobs

    async def run(self, owner: str, job_id: str) -> None:
        self.calls += 1
        try:
            if self.calls == 1:
                await start(self._jobs, owner, job_id)
                await asyncio.Event().wait()
            await self.free.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        attempt = await start(self._jobs, owner, job_id)
        if attempt is not None:  # on a machine that stands still for STALE_S, yet another call has it
            await attempt.complete(make_result(attempt.task))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    jobs = {"heartbeat_s": STALE_S / 3, "stale_s": STALE_S}
    return resolve(Settings.model_validate({"media": {"root": (tmp_path / "media").as_uri()}, "jobs": jobs}), "demo")


@pytest.fixture
def jobs(settings: Settings) -> JobStore:
    return JobStore(open_store(settings), settings)


@pytest.fixture
def replicas(jobs: JobStore) -> Replicas:
    return Replicas(jobs)


@pytest.fixture
def model(settings: Settings, replicas: Replicas) -> AnyServed:
    return AnyServed("video", settings.served["video"], replicas)


@pytest.fixture
async def ingress(settings: Settings, jobs: JobStore, model: AnyServed) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(open_store(settings), jobs, {model.id: model}, settings.jobs)
    yield dispatcher
    await dispatcher.close()


async def until_calls(replicas: Replicas, number: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while replicas.calls < number:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_job_whose_replica_fell_silent_is_done_by_another(
    ingress: Dispatcher, replicas: Replicas, model: AnyServed
) -> None:
    replicas.free.set()
    job = await ingress.create(model, make_task(), {})
    ended = await ingress.wait(job, DEADLINE_S)
    assert ended.status == "completed"
    assert ended.attempts >= 2
    assert replicas.given_up == 1


async def test_a_job_keeps_its_place_where_the_next_replica_is_busy(
    ingress: Dispatcher, replicas: Replicas, model: AnyServed
) -> None:
    job = await ingress.create(model, make_task(), {})
    await until_calls(replicas, 2)
    await asyncio.sleep(4 * STALE_S)
    assert (replicas.calls, replicas.given_up) == (2, 1)
    replicas.free.set()
    assert (await ingress.wait(job, DEADLINE_S)).status == "completed"


def dispatching(store: LocalStore, settings: Settings) -> tuple[Dispatcher, AnyServed, Replicas]:
    jobs = JobStore(store, settings)
    replicas = Replicas(jobs)
    model = AnyServed("video", settings.served["video"], replicas)
    return Dispatcher(store, jobs, {model.id: model}, settings.jobs), model, replicas


class SlowStore(LocalStore):
    """Takes longer over a job's record than a heartbeat."""

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        if key.endswith("request.json"):
            await asyncio.sleep(STALE_S)
        return await super().put(key, data, if_absent=if_absent)


async def test_the_lease_is_kept_however_long_the_store_takes_over_the_first_job(
    settings: Settings, tmp_path: Path
) -> None:
    store = SlowStore(tmp_path / "media")
    ingress, model, replicas = dispatching(store, settings)
    replicas.free.set()
    job = await ingress.create(model, make_task(), {})
    assert (await ingress.wait(job, DEADLINE_S)).status == "completed"
    await ingress.close()


class HeldStore(LocalStore):
    """Takes a job's record when it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        if key.endswith("request.json"):
            self.begun.set()
            await self.go_on.wait()
        return await super().put(key, data, if_absent=if_absent)


async def test_a_job_that_is_being_stored_is_run_though_its_caller_leaves(settings: Settings, tmp_path: Path) -> None:
    store = HeldStore(tmp_path / "media")
    ingress, model, replicas = dispatching(store, settings)
    creating = asyncio.create_task(ingress.create(model, make_task(), {}))
    await store.begun.wait()
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    store.go_on.set()
    await until_calls(replicas, 1)
    await ingress.close()


class LosingStore(LocalStore):
    """Stores a job's record, but its answer is lost."""

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        stored = await super().put(key, data, if_absent=if_absent)
        if key.endswith("request.json"):
            raise StorageFailed("The store does not answer.")
        return stored


async def test_a_job_that_its_caller_was_refused_never_runs(settings: Settings, tmp_path: Path) -> None:
    store = LosingStore(tmp_path / "media")
    ingress, model, replicas = dispatching(store, settings)
    with pytest.raises(StorageFailed):
        await ingress.create(model, make_task(), {})
    async with asyncio.timeout(DEADLINE_S):
        while await store.list("jobs"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert (replicas.calls, model.load.under_way) == (0, [])
    await ingress.close()


class Timed(VideoClient):
    """A replica whose engine took 40 s for a video."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs

    async def run(self, owner: str, job_id: str) -> None:
        attempt = await start(self._jobs, owner, job_id)
        assert attempt is not None
        await attempt.complete(replace(make_result(attempt.task), timing=Timing(engine_s=40.0)))


async def test_what_a_video_took_tells_when_to_ask_for_the_next(settings: Settings, jobs: JobStore) -> None:
    model = AnyServed("video", settings.served["video"], Timed(jobs))
    ingress = Dispatcher(open_store(settings), jobs, {model.id: model}, settings.jobs)
    job = await ingress.create(model, make_task(), {})
    assert ingress.poll_after_ms(job) < 2000
    async with asyncio.timeout(DEADLINE_S):
        while model.load.under_way:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert ingress.poll_after_ms(job) == 2000
    await ingress.close()


class Flaky(LocalStore):
    """Refuses to read, or to renew a lease that was written once, while it is told to."""

    refuses_reads = refuses_leases = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.refused, self.looks = Counter[str](), 0

    async def get(self, key: str) -> bytes:
        if self.refuses_reads:
            self.refused["reads"] += 1
            raise StorageFailed("The store does not answer.")
        return await super().get(key)

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        if self.refuses_leases and key.startswith("dispatchers/") and await self.exists(key):
            self.refused["leases"] += 1
            raise StorageFailed("The store does not answer.")
        return await super().put(key, data, if_absent=if_absent)

    async def list(self, prefix: str) -> list[ObjectInfo]:
        self.looks += prefix.startswith("jobs/")
        return await super().list(prefix)


async def test_who_waits_for_a_video_waits_on_while_the_store_is_away(settings: Settings, tmp_path: Path) -> None:
    store = Flaky(tmp_path / "media")
    ingress, model, replicas = dispatching(store, settings)
    replicas.calls = 1  # the one that never answers
    job = await ingress.create(model, make_task(), {})
    store.refuses_reads = True
    waiting = asyncio.create_task(ingress.wait(job, DEADLINE_S))
    async with asyncio.timeout(DEADLINE_S):
        while store.refused["reads"] < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    store.refuses_reads = False
    replicas.free.set()
    assert (await waiting).status == "completed"
    await ingress.close()


async def test_an_ingress_that_was_cut_off_itself_gives_up_no_replica(settings: Settings, tmp_path: Path) -> None:
    store = Flaky(tmp_path / "media")
    ingress, model, replicas = dispatching(store, settings)
    store.refuses_leases = True
    job = await ingress.create(model, make_task(), {})
    async with asyncio.timeout(DEADLINE_S):
        while store.looks < 4 or store.refused["leases"] < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert (replicas.calls, replicas.given_up) == (1, 0)
    # and goes on when it is heard of again
    store.refuses_leases = False
    replicas.free.set()
    assert (await ingress.wait(job, DEADLINE_S)).status == "completed"
    assert replicas.given_up == 1
    await ingress.close()
