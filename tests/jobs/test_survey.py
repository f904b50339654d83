"""What the sweeper finds in the store, and what it removes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from serve_app.errors import JobNotFound, StorageFailed
from serve_app.jobs.attempt import start
from serve_app.jobs.records import input_keys, new_job_id, result_keys
from serve_app.jobs.store import JobStore
from serve_app.jobs.survey import Survey
from serve_app.settings import Settings
from serve_app.storage import open_store
from serve_app.storage.base import ObjectStore
from serve_app.storage.local import LocalStore
from tests.jobs.conftest import Counting, Create, claim_key, impatient, lease, make_result, make_task, orphans, started


class Away(LocalStore):
    """A store of which every object takes a moment and then cannot be read; counts how often that was tried."""

    asked = 0

    async def get(self, key: str) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)
        raise StorageFailed(f"{key} cannot be read.")


class Overtaken(LocalStore):
    """A store in which another sweeper removes each job right after its record was read."""

    async def get(self, key: str) -> bytes:
        data = await super().get(key)
        await self.delete(key)
        return data


class TestScan:
    async def test_waiting_makes_no_orphan_while_the_dispatcher_lives(
        self, settings: Settings, jobs: JobStore, create: Create
    ) -> None:
        job = await create()
        await lease(jobs, "d1").renew()
        assert await orphans(jobs) == []
        await asyncio.sleep(0.1)
        assert await orphans(impatient(settings)) == [("public", job.id)]
        assert (await jobs.get("public", job.id)).attempts == 0

    async def test_where_the_store_fails_nothing_is_read_behind_ones_back(
        self, settings: Settings, store: ObjectStore, create: Create
    ) -> None:
        for _ in range(64):
            await create()
        assert isinstance(store, LocalStore)
        away = Away(store.root)
        with pytest.raises(StorageFailed):
            await Survey(JobStore(away, settings)).scan()
        asked = away.asked
        for _ in range(100):
            await asyncio.sleep(0)
        assert away.asked == asked < 64

    async def test_of_a_dispatcher_that_died(self, any_settings: Settings) -> None:
        jobs = JobStore(open_store(any_settings), any_settings)
        await lease(jobs, "d1").renew()
        waiting = await jobs.create(make_task(caller="alice"), dispatcher="d1")
        silent = await jobs.create(make_task(caller="bob"), dispatcher="d1")
        done = await jobs.create(make_task(caller="bob"), dispatcher="d1")
        assert await start(jobs, "bob", silent.id) is not None
        attempt = await start(jobs, "bob", done.id)
        assert attempt is not None
        await attempt.complete(make_result(done.task))
        assert await orphans(jobs) == []
        await asyncio.sleep(0.1)
        both = sorted([("alice", waiting.id), ("bob", silent.id)], key=lambda each: each[1])
        assert await orphans(impatient(any_settings)) == both
        assert (await Survey(jobs).scan()).states == {"finished": 1, "queued": 1, "in_progress": 1}

    async def test_of_a_dispatcher_that_has_resigned(self, any_settings: Settings) -> None:
        jobs = JobStore(open_store(any_settings), any_settings)
        waiting = await jobs.create(make_task(), dispatcher="d1")
        runs = await jobs.create(make_task(), dispatcher="d1")
        assert await start(jobs, "public", runs.id) is not None
        await lease(jobs, "d1").renew()
        await lease(jobs, "d1").resign()
        assert await orphans(jobs) == [("public", waiting.id)]

    async def test_a_job_that_cannot_be_read_stops_no_other(
        self, store: LocalStore, jobs: JobStore, create: Create
    ) -> None:
        spoilt, job = await create(), await create()
        await lease(jobs, "d1").resign()
        # reading it is an error of the operating system, as on a failing disk: a name that leads to itself
        path = store.root / f"jobs/public/{spoilt.id}/request.json"
        path.unlink()
        path.symlink_to(path)
        assert await orphans(jobs) == [("public", job.id)]
        assert await Survey(jobs).expire(job.expires_at + 1) >= 1
        with pytest.raises(JobNotFound):
            await jobs.get("public", job.id)


class TestExpiry:
    @pytest.fixture
    def short(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"media": settings.media.model_copy(update={"ttl_s": 60.0})})

    async def test_record_and_files_go_together(self, short: Settings, store: ObjectStore) -> None:
        jobs = JobStore(store, short)
        job = await jobs.create(make_task(), dispatcher="d1")
        attempt = await started(jobs, job.id)
        for key in (*input_keys("public", job.id), *result_keys("public", job.id)):
            await store.put(key, b"x")
        await attempt.complete(make_result(job.task))
        await store.put(f"media/public/2020/01/01/img_{32 * 'a'}-0.png", b"x")
        await claim_key(jobs, "public", "key", "print", job.id)
        await lease(jobs, f"ingress-{16 * 'a'}").renew()

        assert await Survey(jobs).expire(time.time()) == 0
        assert len(await store.list("media")) == 4
        # twice at once, as two sweepers would
        counts = await asyncio.gather(*(Survey(jobs).expire(job.expires_at + 1) for _ in range(2)))
        assert 1 <= sum(counts) <= 2
        assert await store.list("") == []
        assert await Survey(jobs).expire(job.expires_at + 1) == 0

    async def test_a_job_that_another_sweeper_removes_stops_nothing(self, short: Settings, store: LocalStore) -> None:
        jobs = JobStore(store, short)
        _, job = [await jobs.create(make_task(), dispatcher="d1") for _ in range(2)]
        await claim_key(jobs, "public", "key", "print", job.id)
        assert await Survey(JobStore(Overtaken(store.root), short)).expire(job.expires_at + 1) == 0
        assert await store.list("") == []

    async def test_a_job_keeps_the_time_it_was_told(
        self, settings: Settings, short: Settings, store: ObjectStore
    ) -> None:
        job = await JobStore(store, settings).create(make_task(), dispatcher="d1")
        key = result_keys("public", job.id)[0]
        await store.put(key, b"x")
        # the setting was made shorter since: the job's `expires_at` stays true, for its files too
        now = time.time() + 3600
        assert await Survey(JobStore(store, short)).expire(now) == 0
        assert await store.exists(key)

    async def test_broken_records_go_too(self, short: Settings, store: ObjectStore) -> None:
        job_id = new_job_id()
        await store.put(f"jobs/public/{job_id}/request.json", b"{half")
        assert await Survey(JobStore(store, short)).expire(time.time() + 30) == 0
        assert await Survey(JobStore(store, short)).expire(time.time() + 61) == 1
        assert await store.list("") == []

    async def test_strangers_files_are_left_alone_and_stop_nothing(self, short: Settings, store: LocalStore) -> None:
        jobs = JobStore(store, short)
        job = await jobs.create(make_task(), dispatcher="d1")
        strangers = ["media/lost+found/x", "media/public/notes.txt", "media/public/old/99/99/x.mp4", "jobs/my jobs/a/b"]
        for name in strangers:
            path = store.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        assert (await Survey(jobs).scan()).states["queued"] == 1
        assert await Survey(jobs).expire(job.expires_at + 1) == 1
        assert all((store.root / name).exists() for name in strangers)

    async def test_of_an_existing_bucket_only_our_names_go(self, short: Settings, store: LocalStore) -> None:
        jobs = JobStore(store, short)
        job = await jobs.create(make_task(), dispatcher="d1")
        await (await started(jobs, job.id)).complete(make_result(job.task))
        strangers = [
            "media/public/2019/07/01/holiday.mp4",
            "media/public/2019/07/01/img_1-0.png",
            f"media/holidays/2019/07/01/img_{32 * 'a'}-0.png",
            f"media/{job.owner}/2019/07/01/{job.id}-9.mov",
            "media/2019/07/01/x/y.png",
            "idempotency/public/keys.json",
            "idempotency/report.json",
            "dispatchers/taxi-7.json",
            f"jobs/public/{job.id}/notes.txt",
        ]
        for name in strangers:
            await store.put(name, b"x")
        assert await Survey(jobs).expire(time.time() + 365 * 86400) == 1
        assert [info.key for info in await store.list("")] == sorted(strangers)

    async def test_finished_jobs_are_read_once_and_forgotten_when_gone(self, short: Settings, tmp_path: Path) -> None:
        store = Counting(tmp_path)
        jobs, survey = JobStore(store, short), Survey(JobStore(store, short))
        made = [await jobs.create(make_task(), dispatcher="d1") for _ in range(3)]
        known = survey._expires_at  # pyright: ignore[reportPrivateUsage]
        for job in made:
            await jobs.cancel("public", job.id)
        assert (await survey.scan()).states == {"finished": 3}
        store.calls.clear()
        await jobs.delete("public", made[0].id)
        assert (await survey.scan()).states == {"finished": 2}
        assert store.calls["get"] == 0
        assert set(known) == {("public", job.id) for job in made[1:]}
        assert await survey.expire(made[-1].expires_at + 1) == 2
        assert known == {}
