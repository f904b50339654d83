"""JobStore over real stores: a job from its creation to its end, as callers see it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.errors import Cancelled, JobNotFound
from serve_app.jobs.attempt import start
from serve_app.jobs.records import input_keys, new_job_id, result_keys
from serve_app.jobs.store import LOOK_EVERY_S, JobStore
from serve_app.jobs.survey import Survey
from serve_app.settings import Settings
from serve_app.storage import open_store
from serve_app.storage.base import ObjectStore
from serve_app.storage.local import LocalStore
from tests.jobs.conftest import Counting, Create, Meanwhile, make_result, make_task, started


async def test_a_job_from_beginning_to_end(any_settings: Settings) -> None:
    jobs = JobStore(open_store(any_settings), any_settings)
    task = make_task(negative_prompt="rain", input_key="jobs/public/x/input.png")
    made = await jobs.create(task, dispatcher="d1", remixed_from="video_x")
    assert made.status == "queued"
    assert made.expires_at == pytest.approx(made.created_at + any_settings.media.ttl_s)
    # another process reads the same
    others = JobStore(open_store(any_settings), any_settings)
    assert await others.get("public", task.id) == made

    attempt = await started(others, task.id)
    assert attempt.task == task
    await attempt.heartbeat(30)
    await attempt.heartbeat(20)
    running = await jobs.get("public", task.id)
    assert (running.status, running.progress, running.attempts) == ("in_progress", 30, 1)

    await attempt.complete(make_result(task))
    done = await jobs.get("public", task.id)
    assert (done.status, done.progress, done.result) == ("completed", 100, make_result(task))
    assert await start(jobs, "public", task.id) is None
    page = await jobs.list("public")
    assert ([job.id for job in page.jobs], page.has_more) == ([task.id], False)

    await jobs.delete("public", task.id)
    with pytest.raises(JobNotFound):
        await jobs.get("public", task.id)
    assert (await jobs.list("public")).jobs == []


async def test_a_reader_that_is_cancelled_at_once_leaves_nothing_undone(jobs: JobStore, create: Create) -> None:
    # a coroutine that is made and never begun is an error of the run: "was never awaited"
    job = await create()
    reading = asyncio.create_task(jobs.get(job.owner, job.id))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


@pytest.mark.parametrize("job_id", ["", "nothing", "../../etc/passwd", "video_", "video_" + "0" * 32, "a/b"])
async def test_no_such_job(jobs: JobStore, job_id: str) -> None:
    for call in (jobs.get, jobs.cancel, jobs.delete):
        with pytest.raises(JobNotFound):
            await call("public", job_id)
    assert await start(jobs, "public", job_id) is None


async def test_owners_do_not_see_each_other(jobs: JobStore, create: Create) -> None:
    job = await create(owner="alice")
    with pytest.raises(JobNotFound):
        await jobs.get("bob", job.id)
    assert (await jobs.list("bob")).jobs == []


async def test_a_job_is_gone_from_the_moment_it_was_told(settings: Settings, store: ObjectStore) -> None:
    jobs = JobStore(store, settings.model_copy(update={"media": settings.media.model_copy(update={"ttl_s": 0.5})}))
    job = await jobs.create(make_task(), dispatcher="d1")
    await asyncio.sleep(0.6)
    with pytest.raises(JobNotFound):
        await jobs.get("public", job.id)
    assert (await jobs.list("public")).jobs == []


class TestList:
    async def test_pages_both_ways(self, jobs: JobStore, create: Create) -> None:
        ids = [(await create(id=new_job_id(1_700_000_000 + number))).id for number in range(5)]
        newest = await jobs.list("public", limit=2)
        assert ([job.id for job in newest.jobs], newest.has_more) == ([ids[4], ids[3]], True)
        rest = await jobs.list("public", after=ids[3], limit=3)
        assert ([job.id for job in rest.jobs], rest.has_more) == ([ids[2], ids[1], ids[0]], False)
        oldest = await jobs.list("public", after=ids[1], limit=2, order="asc")
        assert ([job.id for job in oldest.jobs], oldest.has_more) == ([ids[2], ids[3]], True)

    async def test_goes_on_after_a_job_that_was_deleted(self, jobs: JobStore, create: Create) -> None:
        ids = [(await create(id=new_job_id(1_700_000_000 + number))).id for number in range(3)]
        await jobs.delete("public", ids[1])
        assert [job.id for job in (await jobs.list("public", after=ids[1])).jobs] == [ids[0]]

    @pytest.mark.parametrize("half", [b"", b'{"task": {"id"', b"\x00\x01", b"[]", b'{"task": null}'])
    async def test_broken_records_are_left_out(
        self, jobs: JobStore, store: ObjectStore, create: Create, half: bytes
    ) -> None:
        good, broken, bad_attempt = await create(), await create(), await create()
        await store.put(f"jobs/public/{broken.id}/request.json", half)
        await store.put(f"jobs/public/{bad_attempt.id}/attempts/0001-aa.json", half)
        await store.put("jobs/public/stray.txt", b"x")
        page = await jobs.list("public")
        assert {job.id for job in page.jobs} == {good.id, bad_attempt.id}
        assert (await jobs.get("public", bad_attempt.id)).status == "queued"
        with pytest.raises(JobNotFound):
            await jobs.get("public", broken.id)
        await Survey(jobs).scan()

    async def test_reads_no_job_beyond_the_page_and_the_next(
        self, store: LocalStore, jobs: JobStore, create: Create
    ) -> None:
        ids = [(await create(id=new_job_id(1_700_000_000 + number))).id for number in range(6)]
        for each in ids[:3]:
            # reading one of these is an error of the operating system: a name that leads to itself
            path = store.root / f"jobs/public/{each}/request.json"
            path.unlink()
            path.symlink_to(path)
        page = await jobs.list("public", limit=2)
        assert ([job.id for job in page.jobs], page.has_more) == ([ids[5], ids[4]], True)


class TestCancel:
    async def test_a_queued_job_ends_at_once(self, jobs: JobStore, create: Create) -> None:
        job = await create()
        cancelled = await jobs.cancel("public", job.id)
        assert cancelled.status == "failed"
        assert cancelled.error is not None
        assert cancelled.error.code == "cancelled"
        assert await jobs.cancelled("public", job.id)
        assert await start(jobs, "public", job.id) is None

    async def test_a_running_one_drops_its_result(self, any_settings: Settings) -> None:
        store = open_store(any_settings)
        jobs = JobStore(store, any_settings)
        job = await jobs.create(make_task(), dispatcher="d1")
        attempt = await started(jobs, job.id)
        await jobs.cancel("public", job.id)
        # stored after the cancellation removed what was there
        for key in result_keys("public", job.id):
            await store.put(key, b"x")
        with pytest.raises(Cancelled):
            await attempt.complete(make_result(job.task))
        found = await jobs.get("public", job.id)
        assert (found.status, found.result) == ("failed", None)
        assert await store.list("media") == []

    async def test_one_that_ends_at_that_moment_leaves_no_files(self, settings: Settings, tmp_path: Path) -> None:
        store = Meanwhile(tmp_path / "meanwhile")
        jobs = JobStore(store, settings)
        job = await jobs.create(make_task(), dispatcher="d1")
        attempt = await started(jobs, job.id)
        for key in result_keys("public", job.id):
            await store.put(key, b"x")
        # it was still running when the cancellation looked, and has ended when that is written: it cannot see it
        store.word, store.happens = "cancel.json", lambda: attempt.complete(make_result(job.task))
        assert (await jobs.cancel("public", job.id)).status == "failed"
        assert store.happens is None
        assert await store.list("media") == []

    async def test_a_finished_one_stays_as_it_is(self, jobs: JobStore, create: Create) -> None:
        job = await create()
        await (await started(jobs, job.id)).complete(make_result(job.task))
        assert (await jobs.cancel("public", job.id)).status == "completed"
        assert (await jobs.get("public", job.id)).status == "completed"


class TestDelete:
    async def test_removes_record_and_files(self, jobs: JobStore, store: ObjectStore, create: Create) -> None:
        job = await create()
        for key in input_keys("public", job.id):
            await store.put(key, b"x")
        attempt = await started(jobs, job.id)
        for key in result_keys("public", job.id):
            await store.put(key, b"x")
        await attempt.complete(make_result(job.task))
        await jobs.delete("public", job.id)
        assert await store.list("") == []
        with pytest.raises(JobNotFound):
            await jobs.delete("public", job.id)

    async def test_a_running_attempt_leaves_nothing_behind(self, any_settings: Settings) -> None:
        store = open_store(any_settings)
        jobs = JobStore(store, any_settings)
        job = await jobs.create(make_task(), dispatcher="d1")
        attempt = await started(jobs, job.id)
        await jobs.delete("public", job.id)
        assert await jobs.cancelled("public", job.id)
        await attempt.heartbeat(50)  # one that was under way
        for key in result_keys("public", job.id):
            await store.put(key, b"x")
        with pytest.raises(Cancelled):
            await attempt.complete(make_result(job.task))
        assert await store.list("") == []

    async def test_an_attempt_that_ends_at_that_moment_leaves_nothing_behind(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        store = Meanwhile(tmp_path / "meanwhile")
        jobs = JobStore(store, settings)
        job = await jobs.create(make_task(), dispatcher="d1")
        attempt = await started(jobs, job.id)
        # gone just before the end is written, so that the deletion does not see that object
        store.word, store.happens = "/attempts/", lambda: jobs.delete("public", job.id)
        with pytest.raises(Cancelled):
            await attempt.complete(make_result(job.task))
        assert store.happens is None
        assert await store.list("") == []


class TestFollowing:
    async def test_a_running_job_is_seldom_listed_and_its_end_is_seen_at_once(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        store = Counting(tmp_path / "counted")
        jobs = JobStore(store, settings)
        made = await jobs.create(make_task(), dispatcher="d1")
        attempt = await started(jobs, made.id)
        job = await jobs.get("public", made.id)
        store.calls.clear()
        for progress in range(1, 50):
            await attempt.heartbeat(progress)
            assert not await jobs.cancelled("public", job.id)
            job = await jobs.follow(job)
            assert job.progress == progress
        assert store.calls["list"] == 0
        await attempt.complete(make_result(job.task))
        assert (await jobs.follow(job)).status == "completed"

    async def test_a_cancellation_is_seen_too(self, jobs: JobStore, create: Create) -> None:
        made = await create()
        await started(jobs, made.id)
        job = await jobs.get("public", made.id)
        await jobs.cancel("public", made.id)
        assert await jobs.cancelled("public", made.id)
        just_read = replace(job, seen_at=job.seen_at + 600)
        followed = await jobs.follow(just_read)
        # its attempt alone was read, which does not count as having seen the job
        assert (followed.finished, followed.seen_at) == (False, just_read.seen_at)
        job = await jobs.follow(replace(followed, seen_at=job.seen_at - LOOK_EVERY_S))
        assert job.error is not None
        assert job.error.code == "cancelled"
