"""The sweep over a real job store; a job is run by the test's own few lines instead of an engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serve_app.deployments.sweeper import DISPATCHED_AT_ONCE, Sweep, Sweeper
from serve_app.errors import JobNotFound, QueueFull, StorageFailed
from serve_app.jobs.attempt import start
from serve_app.jobs.records import Job
from serve_app.jobs.store import JobStore
from serve_app.settings import Settings
from serve_app.storage import open_store
from serve_app.storage.local import LocalStore
from tests.deployments.conftest import eventually, settled, sweeping
from tests.jobs.conftest import JOBS, lease, make_result, make_task

MODEL = "demo/wan-tiny"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"media": {"root": (tmp_path / "media").as_uri()}, "jobs": JOBS})


@pytest.fixture
def jobs(settings: Settings) -> JobStore:
    return JobStore(open_store(settings), settings)


class Runner:
    """Completes the jobs it is given, after `refusals` QueueFulls and one at a time."""

    def __init__(self, jobs: JobStore, refusals: int = 0) -> None:
        self.ran: list[str] = []
        self.at_once = self.most_at_once = 0
        self._jobs = jobs
        self._refusals = refusals
        self._free = asyncio.Semaphore(1)

    async def __call__(self, owner: str, job_id: str) -> None:
        if self._refusals:
            self._refusals -= 1
            raise QueueFull("Full.")
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            async with self._free:
                attempt = await start(self._jobs, owner, job_id)
                if attempt is not None:
                    await asyncio.sleep(0.02)
                    self.ran.append(job_id)
                    await attempt.complete(make_result(attempt.task))
        finally:
            self.at_once -= 1


async def create(jobs: JobStore, number: int, dispatcher: str = "gone") -> list[Job]:
    return [await jobs.create(make_task(), dispatcher=dispatcher) for _ in range(number)]


async def orphans(jobs: JobStore, number: int) -> list[Job]:
    """Jobs whose dispatcher has gone."""
    made = await create(jobs, number)
    await lease(jobs, "gone").resign()
    return made


async def finished(jobs: JobStore, made: list[Job]) -> None:
    async with asyncio.timeout(60):
        for job in made:
            while (await jobs.get(job.owner, job.id)).status != "completed":  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_jobs_of_a_dead_dispatcher_are_run_once_each(jobs: JobStore, settings: Settings) -> None:
    made = await orphans(jobs, 20)
    runner = Runner(jobs)
    async with sweeping(Sweep(jobs, {MODEL: runner}, settings)):
        await finished(jobs, made)
    assert sorted(runner.ran) == sorted(job.id for job in made)
    assert runner.most_at_once <= DISPATCHED_AT_ONCE
    assert all([(await jobs.get("public", job.id)).attempts == 1 for job in made])


class Outage(LocalStore):
    """A store that answers no listing, until it is over."""

    refused = 0
    over = False

    async def list_names(self, prefix: str) -> list[str]:
        if not self.over:
            self.refused += 1
            raise StorageFailed("The store is away.")
        return await super().list_names(prefix)


async def test_an_outage_of_the_store_ends_no_sweeping(jobs: JobStore, settings: Settings, tmp_path: Path) -> None:
    made, store = await orphans(jobs, 2), Outage(tmp_path / "media")

    async def refused() -> bool:
        return store.refused > 2

    async with sweeping(Sweep(JobStore(store, settings), {MODEL: Runner(jobs)}, settings)):
        await eventually(refused)
        store.over = True
        await finished(jobs, made)


async def test_a_sweeper_that_ends_resigns_and_is_healthy_no_more(settings: Settings) -> None:
    sweeper = Sweeper(settings, {})
    await sweeper.check_health()
    await sweeper.sweep.lease.renew()
    store = open_store(settings)
    assert len(await store.list("dispatchers")) == 1
    await sweeper.close()
    assert await store.list("dispatchers") == []
    with pytest.raises(asyncio.CancelledError):
        await sweeper.check_health()


async def test_jobs_of_a_living_dispatcher_are_left_to_it(jobs: JobStore, settings: Settings) -> None:
    [job] = await create(jobs, 1, dispatcher="alive")
    await lease(jobs, "alive").renew()
    runner = Runner(jobs)
    async with sweeping(Sweep(jobs, {MODEL: runner}, settings)):
        await asyncio.sleep(0.5)
    assert runner.ran == []
    assert (await jobs.get("public", job.id)).status == "queued"


async def test_a_job_that_waits_for_its_turn_is_dispatched_once(jobs: JobStore, settings: Settings) -> None:
    made = await orphans(jobs, 2)
    begun: list[str] = []
    turn = asyncio.Event()

    async def wait(owner: str, job_id: str) -> None:
        del owner
        begun.append(job_id)
        await turn.wait()

    sweep = Sweep(jobs, {MODEL: wait}, settings)
    for _ in range(3):
        await sweep.once()
        await asyncio.sleep(0)
    assert sorted(begun) == sorted(job.id for job in made)
    turn.set()
    await settled(sweep)
    await sweep.once()
    await settled(sweep)
    assert len(begun) == 4, "what was not run is found again"


async def test_a_dispatch_that_was_refused_is_made_again(jobs: JobStore, settings: Settings) -> None:
    made = await orphans(jobs, 2)
    async with sweeping(Sweep(jobs, {MODEL: Runner(jobs, refusals=3)}, settings)):
        await finished(jobs, made)


async def test_a_job_waits_for_its_model_and_the_others_go_on(jobs: JobStore, settings: Settings) -> None:
    """More wait for the model that is gone than are dispatched at once, and they came first."""
    waiting = [await jobs.create(make_task(model="gone"), dispatcher="gone") for _ in range(DISPATCHED_AT_ONCE + 1)]
    made = await orphans(jobs, 2)
    async with sweeping(Sweep(jobs, {MODEL: Runner(jobs)}, settings)):
        await finished(jobs, made)
        assert [(await jobs.get("public", job.id)).status for job in waiting] == ["queued"] * len(waiting)
    async with sweeping(Sweep(jobs, {MODEL: Runner(jobs), "gone": Runner(jobs)}, settings)):
        await finished(jobs, waiting)


async def test_two_sweepers_at_once_do_no_harm(jobs: JobStore, settings: Settings) -> None:
    made = await orphans(jobs, 10)
    runner = Runner(jobs)
    async with sweeping(Sweep(jobs, {MODEL: runner}, settings), Sweep(jobs, {MODEL: runner}, settings)):
        await finished(jobs, made)


async def test_a_sweeper_takes_over_from_one_that_died(jobs: JobStore, settings: Settings) -> None:
    [job] = await orphans(jobs, 1)
    never = asyncio.Event()

    async def hang(owner: str, job_id: str) -> None:
        del owner, job_id
        await never.wait()

    first = Sweep(jobs, {MODEL: hang}, settings)
    await first.once()
    hurried = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"stale_s": 1.0})})
    second = JobStore(open_store(hurried), hurried)
    async with sweeping(Sweep(second, {MODEL: Runner(second)}, hurried)):
        await finished(jobs, [job])
    never.set()
    await settled(first)


async def test_an_outage_that_silenced_everyone_is_no_ones_death(jobs: JobStore, settings: Settings) -> None:
    hurried = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"stale_s": 0.6})})
    [job] = await create(jobs, 1, dispatcher="cut-off")
    await lease(jobs, "cut-off").renew()
    runner = Runner(jobs)
    sweep = Sweep(JobStore(open_store(hurried), hurried), {MODEL: runner}, hurried)
    await sweep.lease.renew()
    await asyncio.sleep(1.2)  # no one's lease was renewed for longer than it lasts, not the sweeper's either
    await sweep.once()
    await settled(sweep)
    assert runner.ran == []
    await sweep.lease.renew()
    await lease(jobs, "cut-off").renew()
    assert (await jobs.get("public", job.id)).status == "queued"
    async with sweeping(sweep):
        await finished(jobs, [job])


async def test_what_has_expired_goes(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"media": {"root": (tmp_path / "media").as_uri(), "ttl_s": 0.3}, "jobs": {**JOBS, "stale_s": 60}}
    )
    store = open_store(settings)
    assert isinstance(store, LocalStore)
    jobs = JobStore(store, settings)
    [job] = await create(jobs, 1)
    async with asyncio.timeout(30), sweeping(Sweep(jobs, {MODEL: Runner(jobs)}, settings)):
        while await store.list("jobs"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    with pytest.raises(JobNotFound):
        await jobs.get("public", job.id)
