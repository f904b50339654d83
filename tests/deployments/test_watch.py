"""What goes on beside an attempt while its engine works."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from serve_app.deployments.watch import Watch
from serve_app.errors import StorageFailed, Unavailable
from serve_app.jobs.attempt import Attempt, start
from serve_app.jobs.store import JobStore
from serve_app.settings import Settings
from serve_app.storage.local import LocalStore
from serve_app.tasks import StoredObject
from serve_app.waiting import finish
from tests.deployments.conftest import Configure, eventually
from tests.jobs.conftest import make_task


class Away(LocalStore):
    """A store that counts what it refuses while it is away."""

    away = False
    refused = 0

    async def put(self, *args: Any, **kwargs: Any) -> StoredObject:
        self._refuse()
        return await super().put(*args, **kwargs)

    async def exists(self, key: str) -> bool:
        self._refuse()
        return await super().exists(key)

    def _refuse(self) -> None:
        if self.away:
            self.refused += 1
            raise StorageFailed("The store is away.")


@pytest.fixture
def settings(configure: Configure) -> Settings:
    return configure()


@pytest.fixture
def store(tmp_path: Path) -> Away:
    return Away(tmp_path / "media")


@pytest.fixture
def jobs(store: Away, settings: Settings) -> JobStore:
    return JobStore(store, settings)


async def begin(jobs: JobStore) -> Attempt:
    job = await jobs.create(make_task(), dispatcher="d1")
    attempt = await start(jobs, "public", job.id)
    assert attempt is not None
    return attempt


async def test_a_job_is_handed_back_before_its_engine_has_stopped(jobs: JobStore, settings: Settings) -> None:
    attempt, leaving = await begin(jobs), asyncio.Event()
    stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    watch = Watch(attempt, settings.jobs, leaving)
    working = asyncio.create_task(watch.during(lambda: finish(stopped, lambda: None), stoppable=True))
    leaving.set()

    async def handed_back() -> bool:
        return (await jobs.get("public", attempt.task.id)).status == "queued"

    await eventually(handed_back)
    assert not working.done()
    stopped.set_result(None)
    with pytest.raises(Unavailable):
        await working


@pytest.mark.parametrize("stoppable", [True, False])
async def test_an_outage_of_the_store_ends_no_attempt(
    jobs: JobStore, settings: Settings, store: Away, stoppable: bool
) -> None:
    attempt, made = await begin(jobs), asyncio.Event()
    watch = Watch(attempt, settings.jobs, asyncio.Event())
    working = asyncio.create_task(watch.during(made.wait, stoppable=stoppable))
    store.away = True

    async def refused() -> bool:
        return store.refused > 2

    await eventually(refused)
    store.away = False
    made.set()
    assert await working
