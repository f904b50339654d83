"""JobStore over real stores: what callers, replicas and the sweeper see."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serve_app.errors import Cancelled, EngineDied, GenerationFailed, JobNotFound, StorageFailed, Unavailable
from serve_app.jobs.attempt import MAX_MESSAGE_CHARS, Attempt, start
from serve_app.jobs.claims import Claim, Claims
from serve_app.jobs.records import AttemptRecord, dumps, input_keys, new_job_id, result_keys
from serve_app.jobs.store import JobStore
from serve_app.jobs.survey import Survey
from serve_app.settings import Settings
from serve_app.storage import open_store
from serve_app.storage.base import ObjectInfo, ObjectStore
from serve_app.storage.local import LocalStore
from serve_app.tasks import StoredObject
from tests.jobs.conftest import claim_key, impatient, lease, make_result, make_task, orphans

Create = Callable[..., Any]


class Away(LocalStore):
    """A store of which every object takes a moment and then cannot be read; counts how often that was tried."""

    asked = 0

    async def get(self, key: str) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)
        raise StorageFailed(f"{key} cannot be read.")


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


async def started(jobs: JobStore, job_id: str) -> Attempt:
    attempt = await start(jobs, "public", job_id)
    assert attempt is not None
    return attempt


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


async def test_a_heartbeat_after_the_end_changes_nothing(jobs: JobStore, create: Create) -> None:
    job = await create()
    attempt = await started(jobs, job.id)
    await attempt.complete(make_result(job.task))
    await attempt.heartbeat(10)
    await attempt.fail(EngineDied("Late."))
    assert (await jobs.get("public", job.id)).status == "completed"


async def test_an_engines_words_are_kept_only_so_long(jobs: JobStore, create: Create) -> None:
    job = await create()
    await (await started(jobs, job.id)).fail(GenerationFailed("x" * 100_000))
    failed = await jobs.get("public", job.id)
    assert failed.error is not None
    assert len(failed.error.message) == MAX_MESSAGE_CHARS


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
            # a read of one of these would raise: a folder stands where the record was
            path = store.root / f"jobs/public/{each}/request.json"
            path.unlink()
            (path / "folder").mkdir(parents=True)
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
        for key in result_keys("public", job.id):
            await store.put(key, b"x")
        await jobs.cancel("public", job.id)
        with pytest.raises(Cancelled):
            await attempt.complete(make_result(job.task))
        found = await jobs.get("public", job.id)
        assert (found.status, found.result) == ("failed", None)
        assert await store.list("media") == []

    async def test_one_that_ends_at_that_moment_leaves_no_files(
        self, jobs: JobStore, store: ObjectStore, create: Create
    ) -> None:
        job = await create()
        attempt = await started(jobs, job.id)
        for key in result_keys("public", job.id):
            await store.put(key, b"x")

        async def complete() -> bool:
            try:
                await attempt.complete(make_result(job.task))
            except Cancelled:
                return False
            return True

        completed, seen = await asyncio.gather(complete(), jobs.cancel("public", job.id))
        found = await jobs.get("public", job.id)
        assert found.status == seen.status
        assert (await store.list("media") == []) == (found.status == "failed")
        assert completed or found.status == "failed"

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


class TestTries:
    async def test_a_silent_attempt_is_followed_by_another(
        self, settings: Settings, jobs: JobStore, create: Create
    ) -> None:
        job = await create()
        first = await started(jobs, job.id)
        assert await start(jobs, "public", job.id) is None
        await asyncio.sleep(0.1)
        second = await started(impatient(settings), job.id)
        assert (first.record.number, second.record.number) == (1, 2)
        # the first was only slow: two that complete are harmless
        await second.complete(make_result(job.task))
        await first.complete(make_result(job.task))
        assert (await jobs.get("public", job.id)).status == "completed"

    async def test_at_most_three(self, jobs: JobStore, create: Create) -> None:
        job = await create()
        for _ in range(3):
            await (await started(jobs, job.id)).fail(EngineDied("The engine died."))
        assert await start(jobs, "public", job.id) is None
        found = await jobs.get("public", job.id)
        assert (found.status, found.attempts) == ("failed", 3)

    async def test_handing_back_costs_none(self, jobs: JobStore, create: Create) -> None:
        job = await create()
        for _ in range(5):
            await (await started(jobs, job.id)).fail(Unavailable("Leaving."))
        assert (await jobs.get("public", job.id)).status == "queued"
        assert await start(jobs, "public", job.id) is not None

    async def test_two_replicas_that_begin_at_once_are_one_try(self, any_settings: Settings) -> None:
        replicas = [JobStore(open_store(any_settings), any_settings) for _ in range(4)]
        job = await replicas[0].create(make_task(), dispatcher="d1")
        attempts = [each for each in await asyncio.gather(*(start(one, "public", job.id) for one in replicas)) if each]
        assert len(attempts) == 1
        assert (await replicas[0].get("public", job.id)).attempts == 1
        await attempts[0].complete(make_result(job.task))
        assert (await replicas[0].get("public", job.id)).status == "completed"

    async def test_a_replica_whose_record_comes_late_gives_way(
        self, any_settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slow_store, store = open_store(any_settings), open_store(any_settings)
        put, about_to, may = slow_store.put, asyncio.Event(), asyncio.Event()

        async def late(*args: Any, **kwargs: Any) -> Any:
            about_to.set()
            await may.wait()
            return await put(*args, **kwargs)

        slow, quick = JobStore(slow_store, any_settings), JobStore(store, any_settings)
        job = await quick.create(make_task(), dispatcher="d1")
        await slow.now()
        monkeypatch.setattr(slow_store, "put", late)
        behind = asyncio.create_task(start(slow, "public", job.id))
        await about_to.wait()
        assert await start(quick, "public", job.id) is not None
        may.set()
        assert await behind is None
        assert (await quick.get("public", job.id)).attempts == 1

    @pytest.mark.parametrize("wrong_by_s", [-3600.0, 3600.0])
    async def test_a_replicas_clock_may_be_wrong(
        self, settings: Settings, jobs: JobStore, store: ObjectStore, create: Create, wrong_by_s: float
    ) -> None:
        job = await create()
        then = time.time() + wrong_by_s
        record = AttemptRecord(number=1, started_at=then, beat_at=then)
        await store.put(f"jobs/public/{job.id}/attempts/0001-aa.json", dumps(record))
        assert await start(jobs, "public", job.id) is None, "it is at work, and was heard of just now"
        await asyncio.sleep(0.1)
        assert await start(impatient(settings), "public", job.id) is not None, "it has not been heard of"

    @pytest.mark.parametrize("ahead_s", [-100.0, 60.0, 100.0, 400.0])
    async def test_a_readers_clock_may_be_wrong(
        self, settings: Settings, create: Create, monkeypatch: pytest.MonkeyPatch, ahead_s: float
    ) -> None:
        rules = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"stale_s": 30.0})})
        replica = JobStore(open_store(rules), rules)
        job = await create()
        await lease(replica, "d1").renew()
        for _ in range(rules.jobs.max_attempts - 1):
            await (await started(replica, job.id)).fail(EngineDied("The engine died."))
        last = await started(replica, job.id)
        await last.heartbeat()
        true_time = time.time
        monkeypatch.setattr(time, "time", lambda: true_time() + ahead_s)
        reader = JobStore(open_store(rules), rules)
        assert await start(reader, "public", job.id) is None, "it was heard of just now"
        assert await orphans(reader) == []
        assert (await reader.get("public", job.id)).status == "in_progress"
        assert await Survey(reader).expire(await reader.now()) == 0
        await lease(reader, "d2").renew()
        new = await reader.create(make_task(), dispatcher="d2")
        assert new.created_at == pytest.approx(true_time(), abs=5)
        assert await orphans(replica) == []

    async def test_a_last_attempt_that_was_only_cut_off_ends_well(
        self, settings: Settings, jobs: JobStore, create: Create
    ) -> None:
        job = await create()
        for _ in range(2):
            await (await started(jobs, job.id)).fail(EngineDied("The engine died."))
        last = await started(jobs, job.id)
        await asyncio.sleep(0.1)
        short = settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"stale_s": 0.05})})
        reader = JobStore(open_store(short), short)
        assert await start(reader, "public", job.id) is None, "a fourth try was made"
        await asyncio.sleep(0.1)
        assert (await reader.get("public", job.id)).error is not None
        await last.complete(make_result(job.task))
        assert (await reader.get("public", job.id)).status == "completed"


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
        async with asyncio.timeout(30):
            while not job.finished:
                await asyncio.sleep(0.2)
                job = await jobs.follow(job)
        assert job.error is not None
        assert job.error.code == "cancelled"


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


class TestClaims:
    async def test_the_first_wins(self, any_settings: Settings) -> None:
        jobs = JobStore(open_store(any_settings), any_settings)
        first, second = make_task(), make_task()
        claim = await claim_key(jobs, "public", "key", "print", first.id)
        assert (claim.fresh, claim.job_id) == (True, first.id)
        again = await claim_key(jobs, "public", "key", "other print", second.id)
        assert (again.fresh, again.job_id, again.fingerprint) == (False, first.id, "print")
        assert (await claim_key(jobs, "someone", "key", "print", second.id)).fresh

    async def test_of_many_at_once_one_wins(self, jobs: JobStore) -> None:
        ids = [new_job_id() for _ in range(20)]
        claims = await asyncio.gather(*(claim_key(jobs, "public", "key", "print", each) for each in ids))
        assert sum(claim.fresh for claim in claims) == 1
        assert len({claim.job_id for claim in claims}) == 1

    async def test_a_job_that_failed_is_passed_over_by_one(self, jobs: JobStore, create: Create) -> None:
        job = await create()
        await claim_key(jobs, "public", "key", "print", job.id)
        await jobs.cancel("public", job.id)
        ids = [new_job_id() for _ in range(10)]
        claims = await asyncio.gather(*(claim_key(jobs, "public", "key", "print", each) for each in ids))
        assert sum(claim.fresh for claim in claims) == 1
        assert {claim.job_id for claim in claims} < set(ids)

    async def test_each_failed_try_costs_what_the_one_before_cost(self, settings: Settings, tmp_path: Path) -> None:
        store = Counting(tmp_path / "counted")
        jobs = JobStore(store, settings)
        cost: list[int] = []
        for _ in range(12):
            store.calls.clear()
            job = make_task()
            claim = await claim_key(jobs, "public", "key", "print", job.id)
            assert claim.fresh
            cost.append(store.calls.total())
            await jobs.create(job, dispatcher="d1")
            await jobs.cancel("public", job.id)
        assert cost[-1] == cost[3]
        # and what came to nothing is given up at the end of the chain
        last = await claim_key(jobs, "public", "key", "print", new_job_id())
        await Claims(jobs).release("public", "key", last)
        assert (await claim_key(jobs, "public", "key", "print", new_job_id())).fresh

    async def test_a_released_one_is_free(self, jobs: JobStore) -> None:
        async def failed(claim: Claim) -> bool:
            return claim.job_id == "a"

        await claim_key(jobs, "public", "key", "print", "a")
        second = await claim_key(jobs, "public", "key", "print", "b", failed=failed)
        assert second.fresh
        await Claims(jobs).release("public", "key", second)
        third = await claim_key(jobs, "public", "key", "print", "c", failed=failed)
        assert (third.fresh, third.job_id) == (True, "c")


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

    async def test_a_job_is_gone_from_the_moment_it_was_told(self, settings: Settings, store: ObjectStore) -> None:
        jobs = JobStore(store, settings.model_copy(update={"media": settings.media.model_copy(update={"ttl_s": 0.5})}))
        job = await jobs.create(make_task(), dispatcher="d1")
        await asyncio.sleep(0.6)
        with pytest.raises(JobNotFound):
            await jobs.get("public", job.id)
        assert (await jobs.list("public")).jobs == []
