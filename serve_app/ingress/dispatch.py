"""Makes sure that an acknowledged video job is run: sends it to its model's deployment and follows it to the end.

The job is stored before the caller hears of it, and so is the lease by which this ingress looks after it. While the
ingress lives, it sends a job again if the replica died. If the ingress dies, its lease runs out and the sweeper takes
over. Knows no HTTP.
"""

import asyncio
import contextlib
import contextvars
import logging
import math
import secrets
import time
from collections.abc import Coroutine, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar

from serve_app.errors import JobNotFound, ServeError, StorageFailed, Unavailable
from serve_app.ingress.services import ServedVideo
from serve_app.jobs.lease import Lease
from serve_app.jobs.records import Job
from serve_app.jobs.store import JobStore
from serve_app.retry import retry
from serve_app.settings import JobSettings
from serve_app.storage.base import ObjectStore
from serve_app.tasks import VideoTask
from serve_app.work import work_of

T = TypeVar("T")
logger = logging.getLogger("serve_app.ingress")

retrying = partial(retry, first_s=0.5, longest_s=10.0)
POLL_S = 0.5
"""How often a waiter looks at the record: a job may be cancelled, or run by an attempt that this ingress did not start.
The end of an attempt that it did start wakes it at once."""


class Dispatcher:
    """There is one per ingress process. `models` by id; `create` may be called by any number of requests at once."""

    def __init__(
        self, store: ObjectStore, jobs: JobStore, models: Mapping[str, ServedVideo], settings: JobSettings
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._models = models
        self._lease = Lease(store, f"ingress-{secrets.token_hex(8)}", settings)
        self._stale_s = settings.stale_s
        self._running: dict[str, asyncio.Task[None]] = {}
        self._heart: asyncio.Task[None] | None = None

    async def create(
        self,
        model: ServedVideo,
        task: VideoTask,
        frames: Mapping[str, bytes],
        *,
        remixed_from: str | None = None,
        user: str | None = None,
    ) -> Job:
        """Stores and dispatches a job. Raises QueueFull, before storing anything, if too many wait already.

        `frames` are its encoded, checked images by the keys that the task gives them. It continues if the caller goes
        away: a stored job that nobody dispatches would wait for ever.
        """
        creating = self._create(model, task, frames, remixed_from=remixed_from, user=user)
        return await asyncio.shield(_detached(creating))

    async def wait(self, job: Job, timeout_s: float) -> Job:
        """The job when it has ended, or as it stands after `timeout_s`. Cancelling the wait leaves the job alone."""
        deadline = time.monotonic() + timeout_s
        while not job.finished and (left := deadline - time.monotonic()) > 0:
            job = await self.look_again(job, min(POLL_S, left))
        return job

    async def look_again(self, job: Job, pause_s: float) -> Job:
        """The job after `pause_s`, or sooner if it has ended. While storage is away, the job as it was."""
        ended = False
        if running := self._running.get(job.id):
            ended = bool((await asyncio.wait([running], timeout=pause_s))[0])
        else:
            await asyncio.sleep(pause_s)
        try:
            return await (self._jobs.get(job.owner, job.id) if ended else self._jobs.follow(job))
        except StorageFailed:
            return job

    def drop(self, job_id: str) -> None:
        """Removes a cancelled or deleted job from the queue, where it would hold a place until its turn."""
        if running := self._running.get(job_id):
            running.cancel()

    def poll_after_ms(self, job: Job) -> int:
        """When it makes sense to ask again: a twentieth of the time that such a job takes, from 0.25 to 5 seconds."""
        model = self._models.get(job.task.model)
        seconds = math.inf if model is None else model.load.costs.seconds(work_of(job.task))
        return int(min(max(seconds * 50, 250), 5000))

    async def close(self) -> None:
        """Gives up all jobs, so that the sweeper takes them over at once and not when the lease runs out.

        Those that already run at a replica continue there.
        """
        tasks = [*self._running.values(), *([self._heart] if self._heart else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
            await self._lease.resign()

    async def _create(self, model: ServedVideo, task: VideoTask, frames: Mapping[str, bytes], **about: Any) -> Job:
        with ExitStack() as admission:
            admission.enter_context(model.load.admit(work_of(task)))
            if self._lease.is_due:
                await self._lease.renew()
            try:
                for key, image in frames.items():
                    await self._store.put(key, image)
                job = await self._jobs.create(task, dispatcher=self._lease.id, **about)
            except StorageFailed:
                # the caller gets an error, so the job must not run later: half of it may have been stored
                _detached(self._discard(task.caller, task.id))
                raise
            # no await from here on: the task gives the place back when the job has ended
            self._running[job.id] = _detached(self._look_after(job, model, admission.pop_all()))
            # fresh while there are jobs to look after; begun before the first is noted, it would end
            if self._heart is None or self._heart.done():
                self._heart = _detached(self._lease.keep(lambda: bool(self._running)))
        return job

    async def _discard(self, owner: str, job_id: str) -> None:
        with contextlib.suppress(JobNotFound):
            delete = partial(self._jobs.delete, owner, job_id)
            await retrying(delete, lambda error, _: isinstance(error, StorageFailed))

    async def _look_after(self, job: Job, model: ServedVideo, admission: ExitStack) -> None:
        """Runs it to the end, then gives its place back."""
        admission.callback(self._running.pop, job.id)
        lost: set[str] = set()

        async def run() -> None:
            await self._run_once(job, model, lost)
            ended = await self._jobs.get(job.owner, job.id)
            if not ended.finished:
                raise Unavailable("The attempt has ended, but not the job.")
            if ended.result is not None:
                model.load.costs.observe(work_of(job.task), ended.result.timing.engine_s)

        def passes(error: Exception, wait_s: float) -> bool:
            # a replica died, its queue is full, or storage is away: the job is stored, so this only costs time.
            # an acknowledged job is not dropped for any other error either
            trace = None if isinstance(error, ServeError) else error
            logger.warning("job %s will be dispatched again in %.1f s: %s", job.id, wait_s, error, exc_info=trace)
            return not isinstance(error, JobNotFound)

        with admission, contextlib.suppress(JobNotFound):  # deleted by its owner
            await retrying(run, passes)

    async def _run_once(self, job: Job, model: ServedVideo, lost: set[str]) -> None:
        """Returns when a replica says that its attempt has ended. Raises Unavailable where it went silent.

        Ray says that a replica is gone, but not while the head of the cluster is away: until then the call waits.
        Each silent attempt is given up once, and its key added to `lost`: while another waits for its turn, there is
        no newer one.
        """
        call = asyncio.ensure_future(model.client.run(job.owner, job.id))
        try:
            while not (await asyncio.wait([call], timeout=self._stale_s))[0]:
                silent = None
                with contextlib.suppress(StorageFailed):  # else nobody can be heard
                    silent = await self._jobs.silent_attempt(job.owner, job.id)
                if silent is not None and self._lease.may_judge and silent not in lost:
                    lost.add(silent)
                    raise Unavailable("The replica that ran this job does not say any more that it does.")
            await call
        finally:
            call.cancel()


def _detached(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task in an empty context. Serve cancels handle calls made in the context of a request that has gone, but a job
    outlives its request."""
    return asyncio.create_task(work, context=contextvars.Context())
