"""The pure rules: what a job's objects mean. Times are plain numbers; 100 is now, 10 s without a heartbeat is stale."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.jobs import records
from serve_app.jobs.records import AttemptRecord, Job, JobError, Objects, Request
from serve_app.settings import JobSettings
from tests.jobs.conftest import make_result, make_task

NOW = 100.0
RULES = JobSettings(stale_s=10, heartbeat_s=3, max_attempts=3)
TASK = make_task()
REQUEST = Request(task=TASK, dispatcher="d1", created_at=50, expires_at=1000)


def attempt(number: int = 1, **values: Any) -> AttemptRecord:
    defaults: dict[str, Any] = {"number": number, "started_at": 60.0, "beat_at": 95.0}
    return AttemptRecord(**{**defaults, **values})


def failed(number: int = 1, **values: Any) -> AttemptRecord:
    error = JobError(code="engine_died", message="The engine died.")
    return attempt(number, **{"status": "failed", "error": error, "completed_at": 95.0, **values})


def job(*attempts: AttemptRecord, **values: Any) -> Job:
    return records.job_of(Objects(request=REQUEST, attempts=attempts, **values), NOW, RULES)


def runnable(*attempts: AttemptRecord) -> bool:
    return records.is_runnable(Objects(request=REQUEST, attempts=attempts), NOW, RULES)


def orphan(*attempts: AttemptRecord, lease_at: float | None = 95) -> bool:
    return records.is_orphan(Objects(request=REQUEST, attempts=attempts), lease_at, NOW, RULES)


class TestIds:
    def test_sort_by_time(self) -> None:
        ids = [records.new_job_id(now) for now in (1.0, 1.001, 2.0, 1_700_000_000.0, 1_800_000_000.0)]
        assert ids == sorted(ids)
        assert records.id_time(ids[3]) == 1_700_000_000.0

    def test_are_their_own_and_well_formed(self) -> None:
        ids = {records.new_job_id(1.0) for _ in range(100)}
        assert len(ids) == 100
        assert all(records.is_job_id(each) and len(each) == 38 for each in ids)

    @pytest.mark.parametrize(
        "text", ["", "video_", "../etc", "video_" + "g" * 32, "video_" + "0" * 33, "image_" + "0" * 32]
    )
    def test_nothing_else_is_one(self, text: str) -> None:
        assert not records.is_job_id(text)

    def test_media_lie_under_the_day_of_the_id(self) -> None:
        job_id = records.new_job_id(1_700_000_000.0)
        assert records.result_keys("public", job_id)[0] == f"media/public/2023/11/14/{job_id}-0.mp4"


class TestStatus:
    def test_without_attempts_it_is_queued(self) -> None:
        assert (job().status, job().progress, job().started_at) == ("queued", 0, None)

    def test_an_attempt_runs(self) -> None:
        found = job(attempt(progress=40))
        assert (found.status, found.progress, found.started_at, found.attempts) == ("in_progress", 40, 60, 1)

    def test_a_stale_attempt_shows_as_running_until_the_next(self) -> None:
        assert job(attempt(beat_at=0.0)).status == "in_progress"

    def test_progress_is_the_highest_of_all_attempts(self) -> None:
        assert job(attempt(progress=80, beat_at=0.0), attempt(2, progress=10)).progress == 80

    def test_only_a_completed_job_is_at_100(self) -> None:
        assert job(attempt(progress=100)).progress == 99
        done = job(attempt(status="completed", completed_at=90.0, result=make_result(TASK)))
        assert (done.status, done.progress, done.completed_at) == ("completed", 100, 90)

    def test_the_first_completed_attempt_counts(self) -> None:
        first = attempt(status="completed", completed_at=90.0, result=make_result(TASK))
        assert job(first, failed(2)).status == "completed"

    def test_a_final_error_fails_it(self) -> None:
        found = job(failed())
        assert (found.status, found.completed_at) == ("failed", 95)
        assert found.error == JobError(code="engine_died", message="The engine died.")

    def test_an_error_that_may_pass_queues_it_again(self) -> None:
        assert job(failed(retry=True)).status == "queued"

    def test_a_failure_does_not_count_while_another_attempt_is_at_work(self) -> None:
        assert job(attempt(), failed(2)).status == "queued"

    def test_no_more_than_the_allowed_tries(self) -> None:
        found = job(failed(1, retry=True), failed(2, retry=True), failed(3, retry=True))
        assert found.status == "failed"
        assert found.error is not None
        assert found.error.code == "engine_died"
        assert "3 attempts" in found.error.message

    def test_a_last_attempt_that_fell_silent_fails_it(self) -> None:
        tries = [attempt(number, beat_at=0.0) for number in (1, 2, 3)]
        found = job(*tries)
        assert found.error is not None
        assert found.error.code == "replica_lost"

    def test_a_last_attempt_that_has_just_fallen_silent_may_yet_come_back(self) -> None:
        tries = [attempt(1, beat_at=0.0), attempt(2, beat_at=0.0), attempt(3, beat_at=80.0)]
        assert job(*tries).status == "in_progress"
        assert not runnable(*tries)

    def test_an_attempt_that_was_handed_back_is_no_try(self) -> None:
        back = [failed(number, retry=True, counted=False) for number in range(1, 9)]
        assert (job(*back).status, job(*back).attempts) == ("queued", 0)

    def test_a_cancellation_wins(self) -> None:
        done = attempt(status="completed", completed_at=90.0, result=make_result(TASK))
        found = job(done, cancelled_at=91.0)
        assert (found.status, found.result, found.completed_at) == ("failed", None, 91)
        assert found.error is not None
        assert found.error.code == "cancelled"


class TestRunnable:
    def test_a_new_job_is(self) -> None:
        assert runnable()

    def test_not_while_a_replica_is_at_work(self) -> None:
        assert not runnable(attempt())
        assert runnable(attempt(beat_at=89.0))

    def test_not_when_it_has_ended(self) -> None:
        assert not runnable(failed())
        assert not runnable(attempt(status="completed", result=make_result(TASK)))

    def test_again_after_an_error_that_may_pass(self) -> None:
        assert runnable(failed(retry=True))


class TestOrphans:
    def test_a_queued_job_belongs_to_its_living_dispatcher_however_long_it_waits(self) -> None:
        assert not orphan(lease_at=95)
        assert orphan(lease_at=80)

    def test_a_job_whose_dispatcher_has_resigned_is_one_at_once(self) -> None:
        assert orphan(lease_at=None)
        assert not orphan(attempt(), lease_at=None)

    def test_a_stale_attempt_is_its_dispatchers_business_for_a_while(self) -> None:
        assert not orphan(attempt(beat_at=85.0))
        assert orphan(attempt(beat_at=60.0))

    def test_what_runs_or_has_ended_is_none(self) -> None:
        assert not orphan(attempt(), lease_at=0)
        assert not orphan(failed(), lease_at=0)


class TestJSON:
    def test_round_trips(self) -> None:
        done = attempt(status="completed", result=make_result(TASK), completed_at=90.0)
        assert records.load(AttemptRecord, records.dumps(done)) == done
        assert records.load(AttemptRecord, records.dumps(failed())) == failed()
        assert records.load(Request, records.dumps(REQUEST)) == REQUEST

    @pytest.mark.parametrize("data", [b"", b"{", b"null", b"[]", b"{}", b'{"number": "x"}', b'{"task": 1}', b"\xff"])
    def test_what_is_no_record_is_a_value_error(self, data: bytes) -> None:
        for kind in (Request, AttemptRecord):
            with pytest.raises(ValueError):  # noqa: PT011 pydantic's own wording
                records.load(kind, data)

    def test_keys_of_a_later_version_are_left_out(self) -> None:
        data = records.dumps(attempt()).replace(b"{", b'{"novelty": 1, ', 1)
        assert records.load(AttemptRecord, data) == attempt()
