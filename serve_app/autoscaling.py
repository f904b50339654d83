"""How many replicas each model should have: plain numbers in, a replica count out.

Each ingress reports a `Demand` for each model (`work.py`): the engine seconds that wait, against the wait that was
promised. `WaitPolicy`, which the deployments file names as the application's `autoscaling_policy`, turns the sum into
replicas. Bounds and delays are Serve's own (`autoscaling_config`). Knows nothing of how Serve carries the numbers but
`WaitPolicy`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ray.serve.config import AutoscalingContext

from serve_app.work import Demand, leaning

WANTED = "_replicas_wanted"
REPLICA_S = "_replica_seconds"
FRESH_S = 30.0
"""A report older than this is ignored: three of Serve's push intervals."""
ROUNDING = 1e-9


def decide(demand: Demand, *, running: int, target: int, cold_start_s: float) -> int:
    """The replica count to aim at, before bounds and delays.

    No replica is added if the running ones finish all work before a new one could start.
    """
    wanted = math.ceil(demand.wanted - ROUNDING)
    if wanted > target and running and demand.replica_s / running < cold_start_s:
        return target
    return wanted


class ColdStarts:
    """How long replicas of each deployment took to start, seen from the replica counts."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[int, float]] = {}
        self._seconds: dict[str, float] = {}

    def see(self, name: str, *, running: int, target: int, now: float) -> None:
        """Notes the current counts."""
        if running >= target:
            _, since = self._asked.pop(name, (0, None))
            if since is not None:
                self._seconds[name] = leaning(self._seconds.get(name), now - since)
        elif target > self._asked.get(name, (0, 0.0))[0]:
            self._asked[name] = (target, now)

    def seconds(self, name: str) -> float:
        """0 until one was seen."""
        return self._seconds.get(name, 0.0)


def report(demands: Mapping[str, Demand]) -> dict[str, float]:
    """What `record_autoscaling_stats` of the ingress returns; `demands` by the name of the model's deployment."""
    wanted = {f"{name}{WANTED}": demand.wanted for name, demand in demands.items()}
    return wanted | {f"{name}{REPLICA_S}": demand.replica_s for name, demand in demands.items()}


Points = Mapping[str, Mapping[Any, Sequence[Any]]]
"""By metric name and replica id: points in time order, each with `timestamp` and `value`."""
Id = TypeVar("Id")


class WaitPolicy:
    """Ray Serve's application-level policy (2.60 runs it, though its schema says that it is not yet supported).

    A deployment with `model` in its `policy_kwargs` follows the demand that all ingress replicas report by that name;
    any other (the ingress itself) follows Serve's own rule, ongoing requests over `target_ongoing_requests`. While no
    fresh report is there the count stays. Serve starts the first replica from zero itself, as soon as a request waits.
    """

    def __init__(self) -> None:
        self.cold_starts = ColdStarts()

    def __call__(self, contexts: Mapping[Id, AutoscalingContext]) -> tuple[dict[Id, int], dict[Id, dict[str, Any]]]:
        """The replica counts by the ids of the deployments, and no state to keep."""
        wanted = {deployment: self._wanted(context, contexts.values()) for deployment, context in contexts.items()}
        return {deployment: count for deployment, count in wanted.items() if count is not None}, {}

    def _wanted(self, context: AutoscalingContext, every: Iterable[AutoscalingContext]) -> int | None:
        assert context.config is not None, "Serve fills in both"
        assert context.current_time is not None, "Serve fills in both"
        name = context.config.policy.policy_kwargs.get("model")
        ongoing = context.total_num_requests
        if name is None:
            return math.ceil(ongoing / context.config.get_target_ongoing_requests())
        now = context.current_time
        running, target = context.current_num_replicas, context.target_num_replicas
        self.cold_starts.see(name, running=running, target=target, now=now)
        demand = reported(name, [context.raw_metrics or {} for context in every], now)
        if demand is None:
            return None
        cold_start_s = self.cold_starts.seconds(name)
        # work dispatched by the sweeper is in no report, and a report may be older than a new request
        least = 1 if ongoing > 0 else 0
        return max(least, decide(demand, running=running, target=target, cold_start_s=cold_start_s))


def reported(name: str, metrics: Iterable[Points], now: float) -> Demand | None:
    """The sum of each replica's newest report. None if no report is fresh."""
    newest: list[tuple[float, float]] = []
    for of_deployment in metrics:
        seconds = of_deployment.get(f"{name}{REPLICA_S}", {})
        for replica, points in of_deployment.get(f"{name}{WANTED}", {}).items():
            if points and seconds.get(replica) and now - points[-1].timestamp < FRESH_S:
                newest.append((seconds[replica][-1].value, points[-1].value))
    return Demand(sum(first for first, _ in newest), sum(second for _, second in newest)) if newest else None
