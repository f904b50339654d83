from __future__ import annotations

import pytest

from serve_app.autoscaling import Work
from serve_app.errors import QueueFull
from serve_app.ingress.admission import LONGEST_RETRY_S, Load
from serve_app.model_settings import ImageSettings, Replicas, TextSettings

ONE = Work("image", "64x64x4", 2.0)


def test_room_is_what_runs_and_what_may_wait() -> None:
    load = Load.of(ImageSettings(replicas=Replicas(max=2), max_queued=3))
    assert (load.limit, load.lanes) == (5, 2)
    assert Load.of(TextSettings(max_running_requests=8, max_queued=1)).limit == 9


def test_a_full_queue_refuses_and_a_place_is_given_back_after_an_error() -> None:
    load = Load(limit=1, lanes=1)

    def fail_inside() -> None:
        with load.admit(ONE):
            with pytest.raises(QueueFull, match="1 requests"):
                load.admit(ONE).__enter__()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    with load.admit(ONE):
        assert load.waiting_s > 0
    assert load.waiting_s == 0


def test_retry_after_is_the_measured_time_of_what_waits() -> None:
    load = Load(limit=4, lanes=2)
    load.finished(ONE, 20.0)
    with load.admit(ONE), load.admit(ONE), load.admit(ONE), load.admit(ONE), pytest.raises(QueueFull) as raised:
        load.admit(ONE).__enter__()
    assert raised.value.retry_after_s == 10.0
    load.finished(Work("image", "64x64x4", 0.001), 1000.0)
    with load.admit(ONE):
        assert load.retry_after_s == LONGEST_RETRY_S


def test_a_retry_is_never_sooner_than_a_second() -> None:
    load = Load(limit=1, lanes=1)
    load.finished(ONE, 0.001)
    with load.admit(ONE):
        assert load.retry_after_s == 1.0


def test_demand_counts_engine_seconds_by_lanes() -> None:
    load = Load(limit=4, lanes=4, lanes_per_replica=4, target_wait_s=30.0)
    load.finished(Work("text", "tokens", 100.0), 10.0)
    with load.admit(Work("text", "tokens", 400.0)):
        assert load.demand().replica_s == pytest.approx(10.0)
    assert load.demand().wanted == 0


def test_a_replicas_full_queue_learns_when_to_come_back() -> None:
    load = Load(limit=2, lanes=1)
    load.finished(ONE, 7.0)
    full = QueueFull("the replica's")
    with pytest.raises(QueueFull), load.admit(ONE):
        raise full
    assert full.retry_after_s == 7.0
