"""What work costs, and room for it, on plain values."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from serve_app.errors import QueueFull
from serve_app.model_settings import ImageSettings, Replicas, TextSettings
from serve_app.tasks import ImageTask, StepCaching, TextTask, VideoTask
from serve_app.work import GUESSED, LONGEST_RETRY_S, SHAPES_KEPT, CostModel, Demand, Load, Work, work_of

ONE = Work("image", "64x64x4", 2.0)


def image(width: int = 1000, height: int = 1000, steps: int = 10, n: int = 1) -> ImageTask:
    return ImageTask(
        id="i", model="m", prompt="p", width=width, height=height, num_inference_steps=steps, guidance_scale=1.0,
        seed=0, n=n,
    )  # fmt: skip


def test_units_of_work_by_kind() -> None:
    video = VideoTask(
        id="v", model="m", prompt="p", width=500, height=200, num_frames=10, fps=8, num_inference_steps=50,
        guidance_scale=5.0, seed=0,
    )  # fmt: skip
    assert work_of(TextTask(id="t", model="m", max_tokens=64)) == Work("text", "tokens", 64.0)
    assert work_of(image(n=3)) == Work("image", "1000x1000x10", 30.0)
    assert work_of(video) == Work("video", "500x200x10x50", 50.0)


def test_cost_falls_back_from_shape_to_mean_to_guess() -> None:
    costs = CostModel()
    small, large = work_of(image(steps=1)), work_of(image(width=2000, steps=50))
    assert costs.seconds(small) == GUESSED["image"]
    costs.observe(large, 200.0)
    assert costs.seconds(large) == 200.0
    assert costs.seconds(small) == 2.0
    costs.observe(small, 0.5)
    assert costs.seconds(small) == 0.5
    assert costs.seconds(large) == 200.0


def test_n_images_of_a_seen_shape_cost_n_times() -> None:
    costs = CostModel()
    costs.observe(work_of(image()), 3.0)
    assert costs.seconds(work_of(image(n=4))) == pytest.approx(12.0)


def test_reused_steps_have_a_cost_of_their_own() -> None:
    costs = CostModel()
    exact, reusing = work_of(image()), work_of(replace(image(), step_caching=StepCaching(method="teacache")))
    costs.observe(exact, 10.0)
    costs.observe(reusing, 4.0)
    assert (costs.seconds(exact), costs.seconds(reusing)) == (10.0, 4.0)


def test_average_leans_to_the_newest() -> None:
    costs = CostModel()
    work = work_of(image())
    costs.observe(work, 10.0)
    for _ in range(30):
        costs.observe(work, 1.0)
    assert costs.seconds(work) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_results_without_a_time_count_for_nothing(seconds: float) -> None:
    costs = CostModel()
    costs.observe(work_of(image()), seconds)
    assert costs.mean is None


def test_shapes_end() -> None:
    costs = CostModel()
    for index in range(3 * SHAPES_KEPT):
        costs.observe(Work("image", f"{index}", 1.0), float(index + 1))
    assert costs.seconds(Work("image", "0", 1.0)) != 1.0
    assert costs.seconds(Work("image", f"{3 * SHAPES_KEPT - 1}", 1.0)) == 3 * SHAPES_KEPT


def test_a_shape_that_is_seen_again_is_not_the_next_to_go() -> None:
    costs = CostModel()
    often, once = Work("image", "often", 1.0), Work("image", "0", 1.0)
    costs.observe(often, 0.5)
    for index in range(SHAPES_KEPT - 1):
        costs.observe(Work("image", f"{index}", 1.0), 7.0)
    costs.observe(often, 0.5)
    costs.observe(Work("image", "new", 1.0), 9.0)
    assert costs.seconds(often) == 0.5
    assert costs.seconds(once) == costs.mean


def test_one_long_generation_alone_asks_for_no_second_replica() -> None:
    assert math.ceil(Demand.of([10_000.0], target_wait_s=30.0).wanted) == 1


@pytest.mark.parametrize(("number", "seconds", "lanes"), [(500, 1.0, 1), (40, 20.0, 1), (400, 5.0, 8)])
def test_the_last_request_waits_no_longer_than_promised(number: int, seconds: float, lanes: int) -> None:
    target_wait_s = 25.0
    replicas = math.ceil(Demand.of([seconds] * number, target_wait_s, lanes).wanted)
    assert (number - replicas * lanes) / (replicas * lanes) * seconds <= target_wait_s
    fewer = replicas - 1
    assert (number - fewer * lanes) / (fewer * lanes) * seconds > target_wait_s


def test_room_is_what_runs_and_what_may_wait() -> None:
    load = Load.of(ImageSettings(replicas=Replicas(max=2), max_queued=3))
    assert (load.limit, load.lanes) == (5, 2)
    assert Load.of(TextSettings(max_running_requests=8, max_queued=1)).limit == 9


def test_a_shorter_promised_wait_asks_for_more_replicas() -> None:
    def wanted(target_wait_s: float) -> float:
        load = Load.of(ImageSettings(replicas=Replicas(target_wait_s=target_wait_s)))
        load.costs.observe(ONE, 30.0)
        with load.admit(ONE):
            return load.demand().wanted

    assert (wanted(30.0), wanted(10.0)) == (0.5, 0.75)


def test_how_many_wait_and_how_long_is_told_by_the_replicas_that_run() -> None:
    load = Load(limit=9, lanes=4, lanes_per_replica=2)
    load.costs.observe(ONE, 20.0)
    with load.admit(ONE), load.admit(ONE), load.admit(ONE):
        assert [load.waiting(replicas) for replicas in (0, 1, 2)] == [3, 1, 0]
        assert [load.expected_wait_s(replicas) for replicas in (0, 1, 2)] == [30.0, 30.0, 0.0]


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
    load.costs.observe(ONE, 20.0)
    with load.admit(ONE), load.admit(ONE), load.admit(ONE), load.admit(ONE), pytest.raises(QueueFull) as raised:
        load.admit(ONE).__enter__()
    assert raised.value.retry_after_s == 10.0
    load.costs.observe(Work("image", "64x64x4", 0.001), 1000.0)
    with load.admit(ONE):
        assert load.retry_after_s == LONGEST_RETRY_S


def test_a_retry_is_never_sooner_than_a_second() -> None:
    load = Load(limit=1, lanes=1)
    load.costs.observe(ONE, 0.001)
    with load.admit(ONE):
        assert load.retry_after_s == 1.0


def test_demand_counts_engine_seconds_by_lanes() -> None:
    load = Load(limit=4, lanes=4, lanes_per_replica=4, target_wait_s=30.0)
    load.costs.observe(Work("text", "tokens", 100.0), 10.0)
    with load.admit(Work("text", "tokens", 400.0)):
        assert load.demand().replica_s == pytest.approx(10.0)
    assert load.demand().wanted == 0


def test_a_replicas_full_queue_learns_when_to_come_back() -> None:
    load = Load(limit=2, lanes=1)
    load.costs.observe(ONE, 7.0)
    full = QueueFull("the replica's")
    with pytest.raises(QueueFull), load.admit(ONE):
        raise full
    assert full.retry_after_s == 7.0
    told = QueueFull("the replica's", retry_after_s=3.0)
    with pytest.raises(QueueFull), load.admit(ONE):
        raise told
    assert told.retry_after_s == 3.0
