"""The simulated cluster on traces that can be worked out by hand, and the promise on a short bursty one."""

from __future__ import annotations

from ray.serve.config import AutoscalingConfig

from benchmarks.simulate import SHAPES, Arrival, Default, Ours, Outcome, Seen, replay, trace, verdict

CHEAP, DEAR = min(SHAPES, key=SHAPES.__getitem__), max(SHAPES, key=SHAPES.__getitem__)


def fixed(count: int) -> AutoscalingConfig:
    return AutoscalingConfig(min_replicas=count, max_replicas=count)


def test_one_replica_serves_in_turn() -> None:
    arrivals = [Arrival(0.0, DEAR), Arrival(0.0, DEAR)]
    outcome = replay("one", lambda seen: seen.target, arrivals, fixed(1), cold_start_s=60.0)
    second = SHAPES[DEAR]
    assert outcome.wait_p50_s == outcome.wait_p99_s
    assert 0.9 * second <= outcome.wait_p99_s <= 1.1 * second
    assert outcome.gpu_hours * 3600 >= 1.8 * second
    assert outcome.most_replicas == 1


def test_a_new_replica_costs_from_its_start_and_helps_after_it() -> None:
    arrivals = [Arrival(0.0, DEAR), Arrival(0.0, DEAR)]
    config = AutoscalingConfig(min_replicas=1, max_replicas=2)

    def two(seen: Seen) -> int:
        return 2

    early = replay("early", two, arrivals, config, cold_start_s=10.0)
    late = replay("late", two, arrivals, config, cold_start_s=1000.0)
    assert early.wait_p99_s == 11.0
    assert late.wait_p99_s > 0.9 * SHAPES[DEAR]
    assert late.gpu_hours > early.gpu_hours


def test_ours_waits_less_than_the_untuned_default_for_less() -> None:
    arrivals = trace(seed=1, hours=0.5, rate=0.25)
    config = AutoscalingConfig(min_replicas=1, max_replicas=100, upscale_delay_s=10.0, downscale_delay_s=300.0)
    ours = replay("ours", Ours(15.0, config, 60.0), arrivals, config, 60.0)
    tuned = AutoscalingConfig(
        **config.model_dump(exclude={"policy", "target_ongoing_requests"}), target_ongoing_requests=8
    )
    default = replay("default", Default(tuned), arrivals, tuned, 60.0)
    assert ours.wait_p99_s < default.wait_p99_s
    assert ours.gpu_hours <= default.gpu_hours


def test_the_verdict_says_so_where_ours_is_not_better() -> None:
    ours, better, worse = (Outcome("ours", 1, 10, 5, 1), Outcome("a", 1, 5, 5, 1), Outcome("b", 1, 20, 6, 1))
    assert verdict([ours, better, worse]) == [
        "against a: no run of ours is lower in both",
        "against b: lower p99 for no more GPU-hours: ours",
    ]
