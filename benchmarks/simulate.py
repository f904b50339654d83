"""Replays a bursty trace through our scaling policy and through Ray Serve's default one: wait and GPU-hours of each.

One model whose requests differ in cost, on single-request replicas in one first-come queue. Both policies run as they
do under Serve: ours is `serve_app.autoscaling`, fed with costs that its own model learns on the way (they differ from
the true ones by noise, and every one is a guess at first); the default's functions are Ray Serve's own, with its
averaging window. Both get the same bounds and delays; the default is tried with a row of `target_ongoing_requests`,
since nobody knows the right one beforehand. Simulated, and simplified: a replica starts in `--cold-start-s`, always;
it never fails; Serve's control loop runs each second; GPU time counts from the decision to start until it is gone.

    python benchmarks/simulate.py [--hours 4] [--seeds 1 2 3]
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray.serve.autoscaling_policy import (
    _apply_delay_logic,  # pyright: ignore[reportPrivateUsage]
    _apply_scaling_factors,  # pyright: ignore[reportPrivateUsage]
    _core_replica_queue_length_policy,  # pyright: ignore[reportPrivateUsage]
    _get_cold_start_scale_up_replicas,  # pyright: ignore[reportPrivateUsage]
)
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from serve_app.autoscaling import decide
from serve_app.work import CostModel, Demand, Work

SHAPES = {"256px 4 steps": 1.0, "1024px 28 steps": 6.0, "2048px 50 steps": 60.0}
"""Seconds of one replica, from cheap to dear."""
USUAL = (0.80, 0.18, 0.02)
BURSTS = {"256px 4 steps": (0.5, 600), "1024px 28 steps": (0.3, 200), "2048px 50 steps": (0.2, 60)}
"""How often a burst is of this shape, and how many requests it has at most times 1.5."""
NOISE = 0.1
REPORT_S = 10.0
"""Serve's push interval: a policy sees the ingress as it was up to so long ago."""


@dataclass(frozen=True)
class Arrival:
    at: float
    shape: str


@dataclass
class Seen:
    """What a policy may look at."""

    now: float
    under_way: list[str]
    costs: CostModel
    running: int
    target: int


Policy = Callable[[Seen], int]


def trace(seed: int, hours: float, rate: float) -> list[Arrival]:
    """Poisson arrivals of the usual mix, and every ten minutes or so a burst of one shape within two minutes."""
    draw = random.Random(seed)
    end = hours * 3600
    arrivals: list[Arrival] = []
    at = draw.expovariate(rate)
    while at < end:
        arrivals.append(Arrival(at, draw.choices(list(SHAPES), USUAL)[0]))
        at += draw.expovariate(rate)
    at = draw.expovariate(1 / 600)
    while at < end:
        shape = draw.choices(list(BURSTS), [weight for weight, _ in BURSTS.values()])[0]
        spread = draw.uniform(10, 120)
        number = int(BURSTS[shape][1] * draw.uniform(0.3, 1.5))
        arrivals += [Arrival(at + draw.uniform(0, spread), shape) for _ in range(number)]
        at += draw.expovariate(1 / 600)
    return sorted((each for each in arrivals if each.at < end), key=lambda each: each.at)


# --- the two policies -----------------------------------------------------------------------------------------------


@dataclass
class Ours:
    """`decide` on the newest report, then Serve's own delays."""

    target_wait_s: float
    config: AutoscalingConfig
    cold_start_s: float
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    reported: Demand = field(default_factory=Demand)
    reported_at: float = -math.inf

    def __call__(self, seen: Seen) -> int:
        if seen.now - self.reported_at >= REPORT_S:
            costs = [seen.costs.seconds(Work("image", shape, 1.0)) for shape in seen.under_way]
            self.reported, self.reported_at = Demand.of(costs, self.target_wait_s), seen.now
        wanted = decide(self.reported, running=seen.running, target=seen.target, cold_start_s=self.cold_start_s)
        number, self.state = _apply_delay_logic(wanted, seen.target, self.config, self.state, _now=seen.now)
        return number


@dataclass
class Default:
    """Serve's functions in the order of its own wrapper, on the mean of the window as its controller forms it."""

    config: AutoscalingConfig
    state: dict[str, Any] = field(default_factory=dict[str, Any])
    window: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])

    def __call__(self, seen: Seen) -> int:
        self.window.append((seen.now, len(seen.under_way)))
        while self.window[0][0] < seen.now - self.config.look_back_period_s:
            self.window.popleft()
        ongoing = sum(number for _, number in self.window) / len(self.window)
        context = _context(self.config, seen, ongoing, self.state)
        if (first := _get_cold_start_scale_up_replicas(context)) is not None:
            return first
        wanted, _ = _core_replica_queue_length_policy(context)
        whole = _apply_scaling_factors(wanted, seen.running, self.config)
        number, self.state = _apply_delay_logic(max(0, whole), seen.target, self.config, self.state, _now=seen.now)
        return number


def _context(config: AutoscalingConfig, seen: Seen, ongoing: float, state: dict[str, Any]) -> AutoscalingContext:
    nothing: Any = None
    return AutoscalingContext(
        deployment_id=nothing, deployment_name="model", app_name="simulated", current_num_replicas=seen.running,
        target_num_replicas=seen.target, running_replicas=[], total_num_requests=ongoing, total_queued_requests=0.0,
        aggregated_metrics=None, raw_metrics=None, capacity_adjusted_min_replicas=config.min_replicas,
        capacity_adjusted_max_replicas=config.max_replicas, policy_state=state, last_scale_up_time=None,
        last_scale_down_time=None, current_time=seen.now, config=config,
    )  # fmt: skip


# --- the cluster ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    policy: str
    wait_p50_s: float
    wait_p99_s: float
    gpu_hours: float
    most_replicas: int


@dataclass
class Cluster:
    """Replicas, the queue before them, and what both cost; moved on by `until`."""

    arrivals: Sequence[Arrival]
    cold_start_s: float
    draw: random.Random
    target: int
    idle: int
    busy: int = 0
    leaving: int = 0
    next_arrival: int = 0
    starting: list[float] = field(default_factory=list[float])
    running: list[tuple[float, int, float]] = field(default_factory=list[tuple[float, int, float]])
    queue: deque[int] = field(default_factory=deque[int])
    under_way: dict[int, str] = field(default_factory=dict[int, str])
    waits: list[float] = field(default_factory=list[float])
    costs: CostModel = field(default_factory=CostModel)

    @property
    def done(self) -> bool:
        return self.next_arrival == len(self.arrivals) and not self.under_way

    @property
    def held(self) -> int:
        """Replicas that cost GPU time."""
        return self.idle + self.busy + len(self.starting)

    def until(self, now: float) -> None:
        """Lets everything happen that happens before `now`."""
        while True:
            arrival = self.arrivals[self.next_arrival].at if self.next_arrival < len(self.arrivals) else math.inf
            end = self.running[0][0] if self.running else math.inf
            start = self.starting[0] if self.starting else math.inf
            at = min(arrival, end, start)
            if at > now:
                return
            if at == arrival:
                self.queue.append(self.next_arrival)
                self.under_way[self.next_arrival] = self.arrivals[self.next_arrival].shape
                self.next_arrival += 1
            elif at == end:
                self._end()
            else:
                heapq.heappop(self.starting)
                self.idle += 1
            self._begin(at)

    def scale(self, now: float, target: int) -> None:
        """Starts replicas, or lets the ones go that start or idle first; a busy one goes when its request ends."""
        for _ in range(target - self.target):
            heapq.heappush(self.starting, now + self.cold_start_s)
        for _ in range(self.target - target):
            if self.starting:
                self.starting.remove(max(self.starting))
                heapq.heapify(self.starting)
            elif self.idle:
                self.idle -= 1
            else:
                self.leaving += 1
        self.target = target

    def _begin(self, now: float) -> None:
        while self.queue and self.idle:
            number = self.queue.popleft()
            arrival = self.arrivals[number]
            seconds = SHAPES[arrival.shape] * self.draw.uniform(1 - NOISE, 1 + NOISE)
            self.waits.append(now - arrival.at)
            self.idle -= 1
            self.busy += 1
            heapq.heappush(self.running, (now + seconds, number, seconds))

    def _end(self) -> None:
        _, number, seconds = heapq.heappop(self.running)
        self.busy -= 1
        self.costs.observe(Work("image", self.under_way.pop(number), 1.0), seconds)
        if self.leaving:
            self.leaving -= 1
        else:
            self.idle += 1


def replay(
    name: str, policy: Policy, arrivals: Sequence[Arrival], config: AutoscalingConfig, cold_start_s: float
) -> Outcome:
    """The whole trace through one policy, a decision each second, until the last request has ended."""
    least = config.min_replicas
    cluster = Cluster(arrivals, cold_start_s, random.Random(7), target=least, idle=least)
    now, gpu_s, most = 0.0, 0.0, least
    while not cluster.done:
        now += 1.0
        cluster.until(now)
        gpu_s += cluster.held
        running = cluster.idle + cluster.busy - cluster.leaving
        wanted = policy(Seen(now, list(cluster.under_way.values()), cluster.costs, running, cluster.target))
        cluster.scale(now, max(least, min(config.max_replicas, wanted)))
        most = max(most, cluster.target)
    waits = sorted(cluster.waits)
    return Outcome(name, _percentile(waits, 50), _percentile(waits, 99), gpu_s / 3600, most)


def _percentile(ordered: Sequence[float], percent: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def compare(arrivals: Sequence[Arrival], args: argparse.Namespace) -> list[Outcome]:
    """Ours with the promised wait and with half and double, the default untouched and with other targets."""
    bounds = {"min_replicas": args.min_replicas, "max_replicas": args.max_replicas}
    delays = {"upscale_delay_s": args.upscale_delay_s, "downscale_delay_s": args.downscale_delay_s}
    config = AutoscalingConfig(**bounds, **delays)
    outcomes = [
        replay(
            f"ours, {wait_s:g} s promised", Ours(wait_s, config, args.cold_start_s), arrivals, config, args.cold_start_s
        )
        for wait_s in (args.target_wait_s, args.target_wait_s / 2, args.target_wait_s * 2)
    ]
    stock = AutoscalingConfig(**bounds)
    outcomes.append(replay("Serve's default, untouched", Default(stock), arrivals, stock, args.cold_start_s))
    for ongoing in args.targets:
        tuned = AutoscalingConfig(**bounds, **delays, target_ongoing_requests=ongoing)
        name = f"Serve's default, our delays, {ongoing:g} ongoing"
        outcomes.append(replay(name, Default(tuned), arrivals, tuned, args.cold_start_s))
    return outcomes


def verdict(outcomes: Sequence[Outcome]) -> list[str]:
    """For each default: which of ours waits less at p99 for no more GPU-hours, or that none does."""
    ours = [outcome for outcome in outcomes if outcome.policy.startswith("ours")]
    lines: list[str] = []
    for other in outcomes[len(ours) :]:
        better = [one.policy for one in ours if one.wait_p99_s < other.wait_p99_s and one.gpu_hours <= other.gpu_hours]
        less = f"lower p99 for no more GPU-hours: {better[0]}" if better else "no run of ours is lower in both"
        lines.append(f"against {other.policy}: {less}")
    return lines


def main() -> None:
    """Prints a table and a verdict for each seed, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=0.25, help="usual arrivals a second, bursts come on top")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--cold-start-s", type=float, default=60.0)
    parser.add_argument("--target-wait-s", type=float, default=30.0)
    parser.add_argument("--min-replicas", type=int, default=1)
    parser.add_argument("--max-replicas", type=int, default=200)
    parser.add_argument("--upscale-delay-s", type=float, default=10.0)
    parser.add_argument("--downscale-delay-s", type=float, default=300.0)
    parser.add_argument("--targets", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    args = parser.parse_args()
    lines: list[dict[str, Any]] = []
    for seed in args.seeds:
        arrivals = trace(seed, args.hours, args.rate)
        work_h = sum(SHAPES[each.shape] for each in arrivals) / 3600
        print(f"\nseed {seed}: {len(arrivals)} requests, {work_h:.1f} GPU-hours of work in {args.hours:g} h")
        print(f"{'policy':<44}{'wait p50':>10}{'wait p99':>10}{'GPU-hours':>11}{'most replicas':>15}")
        outcomes = compare(arrivals, args)
        for outcome in outcomes:
            waits = f"{outcome.wait_p50_s:>9.1f}s{outcome.wait_p99_s:>9.1f}s"
            print(f"{outcome.policy:<44}{waits}{outcome.gpu_hours:>11.1f}{outcome.most_replicas:>15}")
            lines.append({"seed": seed, **vars(outcome)})
        print("\n".join(verdict(outcomes)))
    print("\n" + json.dumps({"benchmark": "simulate", "args": vars(args), "outcomes": lines}))


if __name__ == "__main__":
    main()
