"""The sweeper: a single replica that runs jobs nobody looks after and removes expired ones.

It scans at once when the application starts, so that jobs of a killed run continue. If two sweep at the same time, a
job may run twice, which is harmless (see `serve_app/jobs`). Knows no HTTP and no engine.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping

from serve_app import telemetry
from serve_app.errors import ServeError
from serve_app.handles import Handle, ModelHandle
from serve_app.jobs.lease import Lease
from serve_app.jobs.records import Job
from serve_app.jobs.store import JobStore
from serve_app.jobs.survey import Survey
from serve_app.settings import Settings
from serve_app.storage import open_store
from serve_app.telemetry import metrics

logger = logging.getLogger(__name__)

Run = Callable[[str, str], Awaitable[None]]
"""Runs a job (owner, id) and returns when its attempt has ended."""
DISPATCHED_AT_ONCE = 16
EXPIRE_EVERY_S = 300.0


class Sweep:
    """The sweeper's work, for any way of running a job. `models` maps model ids to how their jobs are run.

    A job whose model is not served waits until it is, or until the job expires.
    """

    def __init__(self, jobs: JobStore, models: Mapping[str, Run], settings: Settings) -> None:
        self.lease = Lease(jobs.store, f"sweeper-{secrets.token_hex(8)}", settings.jobs)
        self._jobs = jobs
        self._survey = Survey(jobs)
        self._models = models
        self._sweep_s = settings.jobs.sweep_s
        # everything lives at least `ttl_s`, so a few looks in that time are enough
        self._expire_every_s = min(EXPIRE_EVERY_S, max(settings.media.ttl_s / 4, settings.jobs.sweep_s))
        self._expired_at = float("-inf")
        self._held: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Sweeps for ever."""
        while True:
            began = time.monotonic()
            try:
                await self.once()
            except ServeError as error:
                logger.warning("sweep: %s", error.message)
            await asyncio.sleep(max(0.0, began + self._sweep_s - time.monotonic()))

    async def once(self) -> None:
        """One sweep: dispatches orphans in the background and, where that is due, removes what has expired."""
        if self.lease.is_due:
            await self.lease.renew()
        held = set(self._held)  # as it was before the scan, which may have read a job before its attempt ended
        scan = await self._survey.scan()
        for state, number in scan.states.items():
            metrics.set_gauge("jobs", number, state=state)
        if self.lease.may_judge:
            orphans = [job for job in scan.orphans if job.task.model in self._models and job.id not in held]
            for job in orphans[: DISPATCHED_AT_ONCE - len(self._held)]:
                self._held[job.id] = asyncio.create_task(self._have_run(job))
        if time.monotonic() - self._expired_at >= self._expire_every_s:
            self._expired_at = time.monotonic()
            removed = await self._survey.expire(await self._jobs.now())
            if removed:
                logger.info("sweep: %d jobs have expired", removed)
            await self._jobs.store.warm_up()  # which also logs what the store cannot do

    async def _have_run(self, job: Job) -> None:
        """Runs a job once. If it has not finished by then, the next sweep finds it again."""
        logger.info("sweep: job %s is dispatched again", job.id)
        metrics.add("retries", what="dispatch")
        try:
            await self._models[job.task.model](job.owner, job.id)
        except ServeError as error:
            logger.warning("sweep: job %s was not run: %s", job.id, error.message)
        except Exception:
            # whatever is broken, other jobs must still be swept
            logger.exception("sweep: job %s was not run", job.id)
        finally:
            del self._held[job.id]


class Sweeper:
    """The Serve class; `videos` holds the handles of the video models by model id."""

    def __init__(self, settings: Settings, videos: Mapping[str, Handle]) -> None:
        telemetry.setup("sweeper", settings.telemetry)
        runs = {id: ModelHandle(handle).run for id, handle in videos.items()}
        self.sweep = Sweep(JobStore(open_store(settings), settings), runs, settings)
        self._tasks = [asyncio.ensure_future(loop) for loop in (self.sweep.lease.keep(), self.sweep.run())]

    async def check_health(self) -> None:
        """Raises what ended the sweeping, if anything did, so that Serve replaces the replica."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self.sweep.lease.resign()
