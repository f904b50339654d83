"""The policy, on plain values."""

from __future__ import annotations

from typing import Any, cast

from ray.serve._private.common import DeploymentID, TimeStampedValue
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from serve_app.autoscaling import ColdStarts, WaitPolicy, decide, report
from serve_app.work import Demand


def test_cheap_and_dear_requests_of_the_same_number_ask_for_different_counts() -> None:
    cheap, dear = (Demand.of([seconds] * 10, target_wait_s=10.0) for seconds in (0.1, 100.0))
    assert decide(cheap, running=1, target=1, cold_start_s=0.0) == 1
    assert decide(dear, running=1, target=1, cold_start_s=0.0) == 10


def test_nothing_under_way_asks_for_none() -> None:
    assert decide(Demand.of([], 10.0), running=3, target=3, cold_start_s=5.0) == 0


def test_no_replica_that_would_come_after_the_work_is_done() -> None:
    demand = Demand.of([1.0] * 100, target_wait_s=10.0)
    assert decide(demand, running=4, target=4, cold_start_s=60.0) == 4
    assert decide(demand, running=4, target=4, cold_start_s=20.0) == 10
    assert decide(demand, running=0, target=1, cold_start_s=60.0) == 10
    assert decide(demand, running=2, target=4, cold_start_s=60.0) == 4, "those that are starting still come"


def test_cold_starts_are_measured_from_the_counts() -> None:
    starts = ColdStarts()
    for now, running, target in [(0, 1, 1), (5, 1, 3), (20, 2, 3), (45, 3, 3), (50, 3, 3)]:
        starts.see("video", running=running, target=target, now=float(now))
    assert starts.seconds("video") == 40.0
    assert starts.seconds("image") == 0.0


def test_a_cold_start_is_measured_from_when_the_last_replica_was_asked_for() -> None:
    starts = ColdStarts()
    for now, running, target in [(0, 1, 1), (5, 1, 2), (20, 1, 3), (25, 2, 3), (50, 3, 3)]:
        starts.see("video", running=running, target=target, now=float(now))
    assert starts.seconds("video") == 30.0


NOW = 1000.0


def context(
    name: str | None,
    metrics: dict[str, list[float]],
    ongoing: float = 0.0,
    age_s: float = 1.0,
    now: float = NOW,
    running: int = 1,
    target: int = 1,
) -> Any:
    """Serve's own context; `metrics` gives each replica's newest value by metric name, each after one of 0."""
    points = {
        name: {
            replica: [TimeStampedValue(now - age_s - 10, 0.0), TimeStampedValue(now - age_s, value)]
            for replica, value in enumerate(values)
        }
        for name, values in metrics.items()
    }
    kwargs = {} if name is None else {"model": name}
    return AutoscalingContext(
        deployment_id=DeploymentID(name=name or "ingress"), deployment_name=name or "ingress", app_name="a",
        current_num_replicas=running, target_num_replicas=target, running_replicas=[], total_num_requests=ongoing,
        total_queued_requests=0.0, aggregated_metrics={}, raw_metrics=cast("Any", points),
        capacity_adjusted_min_replicas=0, capacity_adjusted_max_replicas=100, policy_state={}, last_scale_up_time=None,
        last_scale_down_time=None, current_time=now,
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
    stale = context(None, reports, age_s=31.0)
    assert decisions(ingress=stale, video=context("video", {})) == {"ingress": 0}


def test_policy_keeps_a_replica_for_what_no_report_holds() -> None:
    ingress = context(None, {name: [value] for name, value in report({"video": Demand()}).items()})
    assert decisions(ingress=ingress, video=context("video", {}, ongoing=2.0))["video"] == 1
    assert decisions(ingress=ingress, video=context("video", {}))["video"] == 0


def test_policy_adds_no_replica_that_would_come_after_the_work_is_done() -> None:
    policy = WaitPolicy()
    reports = {name: [value] for name, value in report({"video": Demand.of([60.0] * 4, 20.0)}).items()}
    # a first start from one replica to two took 600 s, and 240 s of work are left for them
    for now, running, target in [(0.0, 1, 1), (10.0, 1, 2), (610.0, 2, 2)]:
        contexts = {
            "ingress": context(None, reports, now=now),
            "video": context("video", {}, now=now, running=running, target=target),
        }
        wanted = policy(contexts)[0]["video"]
    assert wanted == 2
    assert decisions(ingress=context(None, reports), video=context("video", {}, running=2, target=2))["video"] == 3
