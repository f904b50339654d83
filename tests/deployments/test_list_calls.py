"""What running jobs ask of S3, counted by the server itself: listings cost the most and are billed by the call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.deployments.sweeper import Sweep
from serve_app.deployments.watch import Watch
from serve_app.ingress.dispatch import Dispatcher
from serve_app.ingress.services import AnyServed
from serve_app.jobs.attempt import start
from serve_app.jobs.records import Job
from serve_app.jobs.store import JobStore
from serve_app.settings import Settings, resolve
from serve_app.storage import open_store
from tests.deployments.conftest import sweeping
from tests.jobs.conftest import VideoClient, make_result, make_task
from tests.s3_server import S3Server

JOBS = 4
MOST_EACH_S = 0.5
"""LIST calls a second of a job that runs, by whoever makes them."""
MODEL = "demo/wan-tiny"


class Replica(VideoClient):
    """Runs jobs as a video deployment does, but for the engine, which works until it is told to end."""

    def __init__(self, settings: Settings) -> None:
        self.at_work = 0
        self.end = asyncio.Event()
        self._jobs = JobStore(open_store(settings), settings)
        self._settings = settings

    async def run(self, owner: str, job_id: str) -> None:
        attempt = await start(self._jobs, owner, job_id)
        assert attempt is not None
        watch = Watch(attempt, self._settings.jobs, asyncio.Event())
        self.at_work += 1
        await watch.during(self.end.wait, stoppable=True)
        await attempt.complete(make_result(attempt.task))


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    server = S3Server(tmp_path / "s3", log=tmp_path / "s3.log")
    server.start()
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    yield server
    server.stop()


def listings(server: S3Server) -> int:
    assert server.log is not None
    return server.log.read_text().count(": LIST BUCKET\n")


@pytest.mark.slow
async def test_a_running_job_makes_half_a_listing_a_second_at_most(counted: S3Server) -> None:
    """With all that looks at jobs, each over its own store and with the times that nobody has set: the replica that
    runs them, the ingress that waits for them, and the sweeper."""
    settings = resolve(Settings.model_validate({"media": {"root": f"s3://{counted.bucket}/media"}}), "demo")
    replica = Replica(settings)
    store = open_store(settings)
    model = AnyServed("video", settings.served["video"], replica)
    ingress = Dispatcher(store, JobStore(store, settings), {MODEL: model}, settings.jobs)
    async with sweeping(Sweep(JobStore(open_store(settings), settings), {}, settings)):
        made: list[Job] = [await ingress.create(model, make_task(), {}) for _ in range(JOBS)]
        async with asyncio.timeout(60):
            while replica.at_work < JOBS:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(ingress.wait(job, 600)) for job in made]
        await asyncio.sleep(1)  # what each begins with is over
        before, began = listings(counted), time.monotonic()
        await asyncio.sleep(settings.jobs.sweep_s)
        made_s = (listings(counted) - before) / JOBS / (time.monotonic() - began)
        assert 0 < made_s <= MOST_EACH_S
        replica.end.set()
        assert {job.status for job in await asyncio.gather(*waiting)} == {"completed"}
        await ingress.close()
