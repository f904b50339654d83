"""The video deployment: runs stored jobs. Knows no HTTP; callers may come and go.

The engine is held only while it generates: encoding and storing go on beside the next job.
"""

import asyncio
import logging
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from serve_app.deployments import provenance
from serve_app.deployments.generation import Record, Turn, generation
from serve_app.deployments.replica import ModelDeployment, application_ends
from serve_app.deployments.watch import Watch
from serve_app.engines.base import OnStep, VideoEngine, VideoOutput
from serve_app.errors import InvalidRequest, ObjectNotFound, ServeError, Unavailable
from serve_app.jobs.attempt import Attempt, patiently, start
from serve_app.jobs.records import result_keys
from serve_app.jobs.store import JobStore
from serve_app.media.images import check_encoders
from serve_app.media.videos import check_encoder, encode_video, remux, spritesheet, thumbnail
from serve_app.settings import Settings
from serve_app.storage.base import check_store
from serve_app.tasks import VideoResult, VideoTask
from serve_app.telemetry import metrics

logger = logging.getLogger(__name__)

Frames = tuple[bytes | None, bytes | None]
"""The encoded first and last frame that a video is made from."""


class VideoDeployment(ModelDeployment[VideoEngine]):
    """One generation at a time."""

    kind = "video"

    def __init__(self, settings: Settings, name: str = "") -> None:
        super().__init__(settings, name)
        self._jobs = JobStore(self._store, settings)
        self._leaving = asyncio.Event()
        self._runs: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._listening: asyncio.Task[None] | None = None

    async def run(self, owner: str, job_id: str) -> None:
        """Makes the next attempt at a job, if there is one to make, and returns when it has ended.

        How it ended stands in the job's record. Cancelling this call leaves the attempt alone. Raises Unavailable
        or StorageFailed only where no attempt could be started.
        """
        key = (owner, job_id)
        if key not in self._runs:
            self._runs[key] = asyncio.create_task(self._run(owner, job_id), name=job_id)
            self._runs[key].add_done_callback(lambda _: self._forget(key))
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        await asyncio.shield(self._runs[key])

    async def close(self) -> None:
        """Hands back what still runs, writes the ledger and ends the engine."""
        self._leaving.set()
        if self._runs:
            await asyncio.wait(self._runs.values())
        await super().close()

    async def _probe(self) -> None:
        await check_store(self._store, self._settings.media.root)
        await asyncio.to_thread(check_encoder)
        await asyncio.to_thread(check_encoders)

    async def _listen(self) -> None:
        """Hands running jobs back when the application ends: they are stored and run later."""
        await application_ends()
        self._leaving.set()

    def _forget(self, key: tuple[str, str]) -> None:
        del self._runs[key]
        if not self._runs and self._listening is not None:  # an idle replica need not listen
            self._listening.cancel()
            self._listening = None

    async def _run(self, owner: str, job_id: str) -> None:
        async with self._slot.turn() as turn:
            if self._leaving.is_set():
                raise Unavailable("This replica is shutting down.")
            attempt = await start(self._jobs, owner, job_id)
            if attempt is None:
                return
            if attempt.record.number > 1:
                metrics.add("retries", what="attempt")
            with generation(self._name, attempt.task, self._ledger) as record:
                await self._attempt(attempt, record, turn)

    async def _attempt(self, attempt: Attempt, record: Record, turn: Turn) -> None:
        task = attempt.task
        record.turn = turn
        watch = Watch(attempt, self._settings.jobs, self._leaving)
        try:
            try:
                frames = await self._read_frames(task)
                generate = partial(self._generate, task, frames, watch.on_step, turn)
                output = await watch.during(generate, stoppable=True)
            finally:
                turn.end()  # encoding and storing go on beside the next job
            result = await watch.during(partial(self._deliver, task, frames, output, record), stoppable=False)
            await attempt.complete(result)
        except ServeError as error:
            record.outcome = error.code
            await attempt.fail(error)
        except Exception:
            logger.exception("attempt %d at %s broke", attempt.record.number, task.id)
            record.outcome = ServeError.code
            await attempt.fail(ServeError("The server failed."))

    async def _generate(self, task: VideoTask, frames: Frames, on_step: OnStep, turn: Turn) -> VideoOutput:
        first, last = frames
        async with turn.work():
            return await self._slot.engine.generate(task, first, on_step, last_frame=last)

    async def _deliver(self, task: VideoTask, frames: Frames, output: VideoOutput, record: Record) -> VideoResult:
        task = replace(task, num_inference_steps=output.num_inference_steps, guidance_scale=output.guidance_scale)
        model = self._slot.engine.card.model
        facts = provenance.of_video(task, *frames, model=model) if self._settings.media.provenance else None
        began = time.monotonic()
        files = await encode_files(task, output, facts)
        encoded = time.monotonic()
        # an outage of the store costs time, not the result
        named = zip(result_keys(task.caller, task.id), files, strict=True)
        objects = await asyncio.gather(*(patiently(partial(self._store.put, *file)) for file in named))
        record.encode_s, record.storage_s = encoded - began, time.monotonic() - encoded
        record.stored(*objects)
        record.steps = output.num_inference_steps
        record.amounts = {"frames": task.num_frames, "pixels": task.num_frames * task.width * task.height}
        video, small, sheet = objects
        return VideoResult(
            video=video,
            thumbnail=small,
            spritesheet=sheet,
            num_inference_steps=task.num_inference_steps,
            guidance_scale=task.guidance_scale,
            timing=record.timing,
        )

    async def _read_frames(self, task: VideoTask) -> Frames:
        async def read(key: str | None, field: str) -> bytes | None:
            try:
                return await patiently(lambda: self._store.get(key)) if key else None
            except ObjectNotFound as error:
                raise InvalidRequest(f"The image of '{field}' is gone.", param=field) from error

        return await read(task.input_key, "input_reference"), await read(task.last_frame_key, "last_frame")


async def encode_files(
    task: VideoTask, output: VideoOutput, facts: dict[str, str] | None
) -> tuple[bytes, bytes, bytes]:
    """The files of the video, its thumbnail and its spritesheet; an MP4 that the engine left on disk is removed."""
    made = output.frames if output.path is None else output.path
    assert made is not None, "an engine gives frames or a path"
    on_disk = isinstance(made, Path)
    encode = partial(remux, made, facts) if on_disk else partial(encode_video, made, task.fps, facts)
    try:
        return await asyncio.gather(
            asyncio.to_thread(encode), asyncio.to_thread(thumbnail, made), asyncio.to_thread(spritesheet, made)
        )
    finally:
        if on_disk:
            made.unlink(missing_ok=True)
