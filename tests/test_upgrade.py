"""A media root that the code before models were a mapping has written: its jobs go on, and its ledger is summed.

tests/fixtures/media-root-before-models was made by that code (commit 4b34c1a) with the demo models: a finished job, one
queued, one handed back by a replica, one cancelled, and the rows of a text, an image and a video.
"""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from serve_app.deployments.sweeper import Sweep
from serve_app.deployments.video import VideoDeployment
from serve_app.jobs.records import request_key
from serve_app.jobs.store import JobStore
from serve_app.ledger import Ledger, Row, usage
from serve_app.settings import Settings, resolve
from serve_app.storage import open_store
from tests.deployments.conftest import settled
from tests.jobs.conftest import JOBS, make_task

OLD = Path(__file__).parent / "fixtures" / "media-root-before-models"
DAY = dt.date(2026, 11, 27)
AGES_S = 3.15e9


@pytest.fixture
def settings(tmp_path: Path, demo_home: Path) -> Settings:
    root = tmp_path / "media"
    shutil.copytree(OLD, root)
    models = {"video": {"warm_up_sizes": [[64, 64, 5]]}}
    media = {"root": root.as_uri(), "ttl_s": AGES_S}
    written = {"home": str(demo_home), "models": models, "media": media, "jobs": JOBS}
    return resolve(Settings.model_validate(written), "demo")


async def test_its_queued_jobs_run(settings: Settings) -> None:
    store = open_store(settings)
    jobs = JobStore(store, settings)
    before = {job.task.prompt.split()[0]: job for job in (await jobs.list("public")).jobs}
    states = {word: job.status for word, job in before.items()}
    assert states == {"finished": "completed", "queued": "queued", "handed": "queued", "cancelled": "failed"}
    deployment = VideoDeployment(settings)
    await deployment.check_health()
    sweep = Sweep(jobs, {"demo/wan-tiny": deployment.run}, settings)
    await sweep.once()
    await settled(sweep)
    await deployment.close()
    after = {word: await jobs.get("public", job.id) for word, job in before.items()}
    assert [word for word, job in after.items() if job.status == "completed"] == ["handed", "queued", "finished"]
    for job in after.values():
        if job.result is not None:
            assert (await store.get(job.result.video.key))[4:8] == b"ftyp"
    assert after["queued"].user == "someone"


@dataclass(frozen=True, slots=True, kw_only=True)
class OldVideoTask:
    """What the release before needs of a task."""

    id: str
    model: str
    prompt: str
    width: int
    height: int
    num_frames: int
    fps: int
    seed: int
    caller: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OldRequest:
    """request.json as the release before reads it."""

    task: OldVideoTask
    owner: str
    dispatcher: str
    created_at: float
    expires_at: float
    remixed_from: str | None
    user: str | None


async def test_a_replica_of_the_release_before_reads_a_new_job(settings: Settings) -> None:
    store = open_store(settings)
    task = make_task(caller="ada")
    job = await JobStore(store, settings).create(task, dispatcher="ingress-new", user="someone")
    written = TypeAdapter(OldRequest).validate_json(await store.get(request_key("ada", job.id)), strict=True)
    assert (written.owner, written.task.caller, written.task.id) == ("ada", "ada", job.id)
    assert (written.dispatcher, written.created_at, written.user) == ("ingress-new", job.created_at, "someone")


async def test_usage_sums_rows_of_both_shapes(settings: Settings) -> None:
    store = open_store(settings)
    before = await usage(store, DAY, DAY)
    told = [(row.model, row.kind, row.generations, row.failed) for row in before]
    assert told == [
        ("demo/flux-tiny", "image", 1, 0),
        ("demo/llada2-tiny", "text", 1, 0),
        ("demo/wan-tiny", "video", 1, 0),
    ]
    ledger = Ledger(store, settings.ledger)
    late = dt.datetime(2026, 11, 27, 23, tzinfo=dt.UTC).timestamp()
    row = Row(
        time=late, id="img_new", caller="public", deployment="poster", kind="image", model="demo/flux-tiny",
        parameters={}, prompt="new", outcome="completed", engine_s=1.0,
    )  # fmt: skip
    ledger.add(row)
    await ledger.close()
    [images] = [row for row in await usage(store, DAY, DAY) if row.kind == "image"]
    assert (images.generations, images.engine_s) == (2, before[0].engine_s + 1.0)
