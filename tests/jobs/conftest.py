"""Job stores for tests, with short times: over a folder, and over a real S3 server."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import JobNotFound
from serve_app.jobs.attempt import Attempt, start
from serve_app.jobs.claims import Claim, Claims
from serve_app.jobs.lease import Lease
from serve_app.jobs.records import new_job_id
from serve_app.jobs.store import JobStore
from serve_app.jobs.survey import Survey
from serve_app.settings import JobSettings, Settings
from serve_app.storage import open_store
from serve_app.storage.base import ObjectInfo, ObjectStore
from serve_app.storage.local import LocalStore
from serve_app.tasks import StoredObject, VideoResult, VideoTask
from tests.s3_server import S3Server

JOBS = {"heartbeat_s": 0.05, "stale_s": 60.0, "sweep_s": 0.1, "cancel_poll_s": 0.02}
"""Nothing goes stale, however busy the machine: who wants that asks an `impatient` reader, or resigns."""

Create = Callable[..., Any]


def make_task(**changes: Any) -> VideoTask:
    values: dict[str, Any] = {
        "id": new_job_id(),
        "model": "demo/wan-tiny",
        "prompt": "a river",
        "width": 64,
        "height": 64,
        "num_frames": 5,
        "fps": 8,
        "num_inference_steps": 1,
        "guidance_scale": 1.0,
        "seed": 7,
    }
    return VideoTask(**{**values, **changes})


class Counting(LocalStore):
    """A store that counts its calls, each by its name."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.calls: Counter[str] = Counter()

    async def put(self, *args: Any, **kwargs: Any) -> StoredObject:
        self.calls["put"] += 1
        return await super().put(*args, **kwargs)

    async def get(self, key: str) -> bytes:
        self.calls["get"] += 1
        return await super().get(key)

    async def stat(self, key: str) -> ObjectInfo:
        self.calls["stat"] += 1
        return await super().stat(key)

    async def exists(self, key: str) -> bool:
        self.calls["exists"] += 1
        return await super().exists(key)

    async def list(self, prefix: str) -> list[ObjectInfo]:
        self.calls["list"] += 1
        return await super().list(prefix)

    async def list_names(self, prefix: str) -> list[str]:
        self.calls["list"] += 1
        return await super().list_names(prefix)


class Meanwhile(LocalStore):
    """A store in which something else happens, once: right before an object is put whose key holds `word`."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.word = ""
        self.happens: Callable[[], Awaitable[Any]] | None = None

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        if self.happens is not None and self.word in key:
            happens, self.happens = self.happens, None
            await happens()
        return await super().put(key, data, if_absent=if_absent)


class VideoClient:
    """A video model's client for tests that give it a `run` of their own."""

    async def describe(self) -> Any:
        raise NotImplementedError

    async def generate(self, task: Any) -> Any:
        raise NotImplementedError

    def stream(self, task: Any) -> Any:
        raise NotImplementedError


def make_result(task: VideoTask) -> VideoResult:
    stored = StoredObject(key=f"media/public/{task.id}", content_type="video/mp4", size=3)
    return VideoResult(video=stored, thumbnail=stored, spritesheet=stored)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"media": {"root": (tmp_path / "media").as_uri()}, "jobs": JOBS})


@pytest.fixture(params=["file", "s3"])
def any_settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    if request.param == "file":
        return settings
    server: S3Server = request.getfixturevalue("s3_server")
    root = f"s3://{server.bucket}/jobs-{secrets.token_hex(4)}"
    return settings.model_copy(update={"media": settings.media.model_copy(update={"root": root})})


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


@pytest.fixture
def jobs(store: ObjectStore, settings: Settings) -> JobStore:
    return JobStore(store, settings)


def impatient(settings: Settings) -> JobStore:
    """Another reader of the same store, to whom all that has not been heard of for 10 ms is dead."""
    short = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"stale_s": 0.01})})
    return JobStore(open_store(short), short)


def lease(jobs: JobStore, dispatcher: str) -> Lease:
    return Lease(jobs.store, dispatcher, JobSettings())


async def started(jobs: JobStore, job_id: str) -> Attempt:
    attempt = await start(jobs, "public", job_id)
    assert attempt is not None
    return attempt


async def claim_key(
    jobs: JobStore,
    owner: str,
    key: str,
    fingerprint: str,
    job_id: str,
    failed: Callable[[Claim], Awaitable[bool]] | None = None,
) -> Claim:
    """Claims a key, where it is held by a job that has not failed."""

    async def job_has_failed(held: Claim) -> bool:
        try:
            return (await jobs.get(owner, held.job_id)).status == "failed"
        except JobNotFound:
            return False

    return await Claims(jobs).claim(owner, key, fingerprint, job_id, failed or job_has_failed)


async def orphans(jobs: JobStore) -> list[tuple[str, str]]:
    """(owner, id) of the jobs that no one looks after."""
    return [(job.owner, job.id) for job in (await Survey(jobs).scan()).orphans]


@pytest.fixture
def create(jobs: JobStore) -> Create:
    """Creates a job of one task of its own."""

    async def create_one(owner: str = "public", dispatcher: str = "d1", **changes: Any) -> Any:
        return await jobs.create(make_task(caller=owner, **changes), dispatcher=dispatcher)

    return create_one
