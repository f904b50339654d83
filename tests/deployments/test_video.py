"""The video deployment over the demo model: jobs from the store to the end, whatever comes between."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from serve_app.deployments.video import VideoDeployment, encode_files
from serve_app.engines.base import VideoOutput
from serve_app.errors import GenerationFailed, JobNotFound, Unavailable
from serve_app.jobs.attempt import start
from serve_app.jobs.records import Job, JobError
from serve_app.jobs.store import JobStore
from serve_app.media.videos import encode_video
from serve_app.settings import Settings
from serve_app.storage import open_store
from serve_app.storage.base import ObjectStore
from tests.deployments.conftest import Configure, eventually, ledger_rows, open_jobs
from tests.jobs.conftest import lease, make_task, orphans
from tests.probing import probe

LONG: dict[str, Any] = {"width": 256, "height": 256, "num_frames": 17, "num_inference_steps": 100}
"""A video that would take minutes: whoever stops it stops it in the middle."""


@pytest.fixture
def settings(configure: Configure) -> Settings:
    return configure()


@pytest.fixture
def jobs(settings: Settings) -> JobStore:
    return open_jobs(settings)


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


@pytest.fixture
async def video(settings: Settings) -> AsyncIterator[VideoDeployment]:
    deployment = VideoDeployment(settings)
    await deployment.check_health()
    yield deployment
    await deployment.close()


async def create(jobs: JobStore, **changes: Any) -> Job:
    return await jobs.create(make_task(**changes), dispatcher="d1")


async def running(jobs: JobStore, job: Job) -> None:
    async def check() -> bool:
        return (await jobs.get("public", job.id)).status == "in_progress"

    await eventually(check)


async def test_makes_a_video_with_thumbnail_and_spritesheet(configure: Configure, any_media: dict[str, str]) -> None:
    settings = configure(media=any_media)
    jobs, store, deployment = open_jobs(settings), open_store(settings), VideoDeployment(settings)
    job = await create(jobs, width=72, num_frames=6, num_inference_steps=2, submitted_at=time.time() - 1)
    await deployment.run("public", job.id)
    await deployment.close()

    done = await jobs.get("public", job.id)
    assert (done.status, done.progress, done.attempts) == ("completed", 100, 1)
    assert done.result is not None
    info = probe(await store.get(done.result.video.key))
    assert (info.width, info.height, info.frames, info.fps) == (72, 64, 6, 8)
    assert Image.open(io.BytesIO(await store.get(done.result.thumbnail.key))).format == "WEBP"
    assert Image.open(io.BytesIO(await store.get(done.result.spritesheet.key))).format == "JPEG"
    stat = await store.stat(done.result.video.key)
    assert (stat.content_type, stat.size) == ("video/mp4", done.result.video.size)
    timing = done.result.timing
    assert timing.queue_s >= 1
    assert min(timing.engine_s, timing.encode_s, timing.storage_s) > 0


async def test_the_same_seed_gives_the_same_bytes(video: VideoDeployment, jobs: JobStore, store: ObjectStore) -> None:
    files: list[bytes] = []
    for seed in (1, 1, 2):
        job = await create(jobs, seed=seed)
        await video.run("public", job.id)
        result = (await jobs.get("public", job.id)).result
        assert result is not None
        files.append(await store.get(result.video.key))
    assert files[0] == files[1] != files[2]


async def test_begins_with_the_input_image(video: VideoDeployment, jobs: JobStore, store: ObjectStore) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (250, 10, 10)).save(buffer, "PNG")
    task = make_task()
    key = f"jobs/public/{task.id}/input.png"
    await store.put(key, buffer.getvalue())
    job = await create(jobs, id=task.id, input_key=key)
    await video.run("public", job.id)
    assert (await jobs.get("public", job.id)).status == "completed"


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        ({"input_key": "jobs/public/nowhere/input.png"}, "invalid_value", "'input_reference' is gone"),
        ({"last_frame_key": "jobs/public/nowhere/last.png"}, "invalid_value", "'last_frame' is gone"),
        ({"boundary_ratio": 0.5}, "unsupported_parameter", "boundary_ratio"),
    ],
)
async def test_what_no_attempt_can_mend_is_final(
    video: VideoDeployment, jobs: JobStore, settings: Settings, wrong: dict[str, Any], code: str, said: str
) -> None:
    job = await create(jobs, **wrong)
    await video.run("public", job.id)
    failed = await jobs.get("public", job.id)
    assert (failed.status, failed.attempts) == ("failed", 1)
    assert failed.error is not None
    assert failed.error.code == code
    assert said in failed.error.message
    assert await start(jobs, "public", job.id) is None
    await video.close()
    assert [row["outcome"] for row in ledger_rows(settings)] == [code]


class Breaking(VideoDeployment):
    async def _generate(self, *_: object) -> VideoOutput:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise RuntimeError("secret")


async def test_a_mistake_of_ours_ends_the_job_without_internals(settings: Settings, jobs: JobStore) -> None:
    deployment, job = Breaking(settings), await create(jobs)
    await deployment.run("public", job.id)
    await deployment.close()
    failed = await jobs.get("public", job.id)
    assert (failed.status, failed.error) == ("failed", JobError(code="internal_error", message="The server failed."))
    assert [row["outcome"] for row in ledger_rows(settings)] == ["internal_error"]


async def test_a_file_that_the_engine_left_is_removed(tmp_path: Path) -> None:
    path, task = tmp_path / "left.mp4", make_task()
    output = VideoOutput(num_inference_steps=1, guidance_scale=1.0, path=path)
    path.write_bytes(encode_video(np.zeros((5, 64, 64, 3), np.uint8), task.fps))
    assert all(await encode_files(task, output, None))
    assert not path.exists()
    path.write_bytes(b"no video")
    with pytest.raises(GenerationFailed):
        await encode_files(task, output, None)
    assert not path.exists()


async def test_progress_rises_and_a_heartbeat_goes_on(video: VideoDeployment, jobs: JobStore) -> None:
    job = await create(jobs, **{**LONG, "num_inference_steps": 12})
    run = asyncio.create_task(video.run("public", job.id))
    seen: list[int] = []
    while not run.done():
        await asyncio.sleep(0.05)
        seen.append((await jobs.get("public", job.id)).progress)
        assert await orphans(jobs) == []
        await lease(jobs, "d1").renew()
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert (await jobs.get("public", job.id)).status == "completed"


class TestCancel:
    async def test_stops_the_engine(self, video: VideoDeployment, jobs: JobStore, settings: Settings) -> None:
        job = await create(jobs, **LONG)
        run = asyncio.create_task(video.run("public", job.id))
        await running(jobs, job)
        await jobs.cancel("public", job.id)
        async with asyncio.timeout(60):
            await run
        follower = await create(jobs)
        await video.run("public", follower.id)
        assert (await jobs.get("public", follower.id)).status == "completed"
        assert (await jobs.get("public", job.id)).status == "failed"
        await video.close()
        rows = ledger_rows(settings)
        assert [row["outcome"] for row in rows] == ["cancelled", "completed"]
        assert rows[0]["engine_s"] > 0, "it held the engine, though for nothing"
        assert (rows[0]["steps"], rows[0]["bytes"]) == (0, 0), "it was stopped before the video was made"

    async def test_a_queued_one_never_starts(self, video: VideoDeployment, jobs: JobStore) -> None:
        job = await create(jobs, **LONG)
        await jobs.cancel("public", job.id)
        async with asyncio.timeout(60):
            await video.run("public", job.id)
        assert (await jobs.get("public", job.id)).attempts == 0

    async def test_delete_leaves_nothing_behind(
        self, video: VideoDeployment, jobs: JobStore, store: ObjectStore
    ) -> None:
        job = await create(jobs, **LONG)
        run = asyncio.create_task(video.run("public", job.id))
        await running(jobs, job)
        await jobs.delete("public", job.id)
        async with asyncio.timeout(60):
            await run
        with pytest.raises(JobNotFound):
            await jobs.get("public", job.id)
        assert await store.list("jobs") == []
        assert await store.list("media") == []

    async def test_the_time_limit_is_final(self, configure: Configure) -> None:
        settings = configure(video={"time_limit_s": 0.5})
        jobs, deployment = open_jobs(settings), VideoDeployment(settings)
        job = await create(jobs, **LONG)
        await deployment.run("public", job.id)
        await deployment.close()
        failed = await jobs.get("public", job.id)
        assert failed.status == "failed"
        assert failed.error is not None
        assert failed.error.code == "timeout"


class TestCallers:
    async def test_one_who_leaves_does_not_stop_the_job(self, video: VideoDeployment, jobs: JobStore) -> None:
        job = await create(jobs, num_inference_steps=20)
        call = asyncio.create_task(video.run("public", job.id))
        await running(jobs, job)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        async def completed() -> bool:
            return (await jobs.get("public", job.id)).status == "completed"

        await eventually(completed)

    async def test_two_for_one_job_make_one_attempt(self, video: VideoDeployment, jobs: JobStore) -> None:
        job = await create(jobs)
        await asyncio.gather(*(video.run("public", job.id) for _ in range(4)))
        await video.run("public", job.id)
        assert (await jobs.get("public", job.id)).attempts == 1


class TestLeaving:
    async def test_an_idle_replica_waits_for_no_end(self, video: VideoDeployment, jobs: JobStore) -> None:
        for _ in range(2):
            await video.run("public", (await create(jobs)).id)
        await asyncio.sleep(0)
        left = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
        assert [name for name in left if name.startswith("VideoDeployment")] == []

    async def test_hands_back_what_runs_and_refuses_what_waits(self, settings: Settings, jobs: JobStore) -> None:
        leaving = VideoDeployment(settings)
        runs, waits = await create(jobs, **LONG), await create(jobs)
        first = asyncio.create_task(leaving.run("public", runs.id))
        await running(jobs, runs)
        second = asyncio.create_task(leaving.run("public", waits.id))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(60):
            await leaving.close()
        await first
        with pytest.raises(Unavailable):
            await second
        back = await jobs.get("public", runs.id)
        assert (back.status, back.attempts) == ("queued", 0)
        assert (await jobs.get("public", waits.id)).attempts == 0

        other = VideoDeployment(settings)
        await other.run("public", waits.id)
        await other.close()
        assert (await jobs.get("public", waits.id)).status == "completed"

    async def test_keeps_its_ledger(self, settings: Settings, jobs: JobStore) -> None:
        deployment = VideoDeployment(settings)
        job = await create(jobs)
        await deployment.run("public", job.id)
        await deployment.close()
        [row] = ledger_rows(settings)
        result = (await jobs.get("public", job.id)).result
        assert result is not None
        assert (row["id"], row["kind"], row["outcome"], row["key"]) == (job.id, "video", "completed", result.video.key)
        assert row["bytes"] == result.video.size + result.thumbnail.size + result.spritesheet.size


@dataclass
class Encoder:
    """An ffmpeg that waits: `begun` is there when it has been started, and it goes on when `go_on` is."""

    begun: Path
    go_on: Path


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Encoder]:
    made, program = Encoder(tmp_path / "begun", tmp_path / "go-on"), tmp_path / "ffmpeg"
    waits = f"touch {made.begun}; until [ -e {made.go_on} ]; do sleep 0.05; done"
    program.write_text(f'#!/bin/sh\n{waits}\nexec {get_ffmpeg_exe()} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    yield made
    made.go_on.touch()


async def test_the_next_begins_while_one_is_encoded(settings: Settings, jobs: JobStore, encoder: Encoder) -> None:
    deployment, made = VideoDeployment(settings), [await create(jobs) for _ in range(2)]
    runs = [asyncio.create_task(deployment.run("public", job.id)) for job in made]
    for job in made:
        await running(jobs, job)
    encoder.go_on.touch()
    await asyncio.gather(*runs)
    await deployment.close()
    assert [(await jobs.get("public", job.id)).status for job in made] == ["completed"] * 2


async def test_an_outage_of_the_store_at_the_end_costs_time_only(
    settings: Settings, jobs: JobStore, encoder: Encoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deployment, job = VideoDeployment(settings), await create(jobs)
    logging.getLogger("serve_app.jobs.attempt").addHandler(caplog.handler)
    run = asyncio.create_task(deployment.run("public", job.id))

    async def encoding() -> bool:
        return encoder.begun.exists()

    await eventually(encoding)
    root = tmp_path / "media"
    root.rename(tmp_path / "unmounted")
    root.touch()
    encoder.go_on.touch()

    async def refused() -> bool:
        return "trying again" in caplog.text

    await eventually(refused)
    assert not run.done()
    root.unlink()
    (tmp_path / "unmounted").rename(root)
    async with asyncio.timeout(60):
        await run
    await deployment.close()
    done = await jobs.get("public", job.id)
    assert (done.status, done.attempts) == ("completed", 1)
