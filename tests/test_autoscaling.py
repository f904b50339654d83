"""The cost model and the policy, on plain values."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
from ray.serve._private.common import DeploymentID, TimeStampedValue
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from serve_app.autoscaling import (
    GUESSED,
    SHAPES_KEPT,
    ColdStarts,
    CostModel,
    Demand,
    WaitPolicy,
    Work,
    decide,
    replicas_wanted,
    report,
    work_of,
)
from serve_app.tasks import ImageTask, TextTask, VideoTask


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
    assert not costs.measured


def test_shapes_end() -> None:
    costs = CostModel()
    for index in range(3 * SHAPES_KEPT):
        costs.observe(Work("image", f"{index}", 1.0), float(index + 1))
    assert costs.seconds(Work("image", "0", 1.0)) != 1.0
    assert costs.seconds(Work("image", f"{3 * SHAPES_KEPT - 1}", 1.0)) == 3 * SHAPES_KEPT


def test_one_long_generation_alone_asks_for_no_second_replica() -> None:
    assert math.ceil(replicas_wanted([10_000.0], target_wait_s=30.0)) == 1


def test_cheap_and_dear_requests_of_the_same_number_ask_for_different_counts() -> None:
    cheap, dear = (Demand.of([seconds] * 10, target_wait_s=10.0) for seconds in (0.1, 100.0))
    assert decide(cheap, running=1, target=1, cold_start_s=0.0) == 1
    assert decide(dear, running=1, target=1, cold_start_s=0.0) == 10


@pytest.mark.parametrize(("number", "seconds", "lanes"), [(500, 1.0, 1), (40, 20.0, 1), (400, 5.0, 8)])
def test_the_last_request_waits_no_longer_than_promised(number: int, seconds: float, lanes: int) -> None:
    target_wait_s = 25.0
    replicas = math.ceil(replicas_wanted([seconds] * number, target_wait_s, lanes))
    assert (number - replicas * lanes) / (replicas * lanes) * seconds <= target_wait_s
    fewer = replicas - 1
    assert (number - fewer * lanes) / (fewer * lanes) * seconds > target_wait_s


def test_nothing_under_way_asks_for_none() -> None:
    assert decide(Demand.of([], 10.0), running=3, target=3, cold_start_s=5.0) == 0


def test_no_replica_that_would_come_after_the_work_is_done() -> None:
    demand = Demand.of([1.0] * 100, target_wait_s=10.0)
    assert decide(demand, running=4, target=4, cold_start_s=60.0) == 4
    assert decide(demand, running=4, target=4, cold_start_s=20.0) == 10
    assert decide(demand, running=0, target=1, cold_start_s=60.0) == 10


def test_cold_starts_are_measured_from_the_counts() -> None:
    starts = ColdStarts()
    for now, running, target in [(0, 1, 1), (5, 1, 3), (20, 2, 3), (45, 3, 3), (50, 3, 3)]:
        starts.see("video", running=running, target=target, now=float(now))
    assert starts.seconds("video") == 40.0
    assert starts.seconds("image") == 0.0


NOW = 1000.0


def context(name: str | None, metrics: dict[str, list[float]], ongoing: float = 0.0, age_s: float = 1.0) -> Any:
    """Serve's own context; `metrics` gives each replica's newest value by metric name."""
    points = {
        name: {replica: [TimeStampedValue(NOW - age_s, value)] for replica, value in enumerate(values)}
        for name, values in metrics.items()
    }
    kwargs = {} if name is None else {"model": name}
    return AutoscalingContext(
        deployment_id=DeploymentID(name=name or "ingress"), deployment_name=name or "ingress", app_name="a",
        current_num_replicas=1, target_num_replicas=1, running_replicas=[], total_num_requests=ongoing,
        total_queued_requests=0.0, aggregated_metrics={}, raw_metrics=cast("Any", points),
        capacity_adjusted_min_replicas=0, capacity_adjusted_max_replicas=100, policy_state={}, last_scale_up_time=None,
        last_scale_down_time=None, current_time=NOW,
        config=AutoscalingConfig(target_ongoing_requests=10, policy=AutoscalingPolicy(policy_kwargs=kwargs)),
    )  # fmt: skip


def decisions(**contexts: Any) -> dict[str, int]:
    return WaitPolicy()(contexts)[0]


def test_policy_sums_what_every_ingress_replica_reports() -> None:
    each = report({"video": Demand.of([60.0] * 4, 20.0)})
    ingress = context(None, {name: [value, value] for name, value in each.items()}, ongoing=25.0)
    assert decisions(ingress=ingress, video=context("video", {})) == {"ingress": 3, "video": 6}


def test_policy_leaves_the_count_while_no_fresh_report_is_there() -> None:
    reports = {name: [value] for name, value in report({"video": Demand.of([60.0], 20.0)}).items()}
    stale = context(None, reports, age_s=120.0)
    assert decisions(ingress=stale, video=context("video", {})) == {"ingress": 0}


def test_policy_keeps_a_replica_for_what_no_report_holds() -> None:
    ingress = context(None, {name: [value] for name, value in report({"video": Demand()}).items()})
    assert decisions(ingress=ingress, video=context("video", {}, ongoing=2.0))["video"] == 1
    assert decisions(ingress=ingress, video=context("video", {}))["video"] == 0
