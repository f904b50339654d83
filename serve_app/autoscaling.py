"""How many replicas each model should have: plain numbers in, a replica count out.

Requests differ a thousandfold in cost (a one-step thumbnail, a fifty-step video), so counting them says little. What
counts is the work that waits, in engine seconds, against the wait that was promised. `CostModel` learns what a shape
costs from finished generations; the ingress sums it over what it has under way and reports a `Demand` for each model;
`WaitPolicy`, which the deployments file names as the application's `autoscaling_policy`, turns it into replicas. Bounds
and delays are Serve's own (`autoscaling_config`). Knows nothing of how Serve carries the numbers but `WaitPolicy`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from serve_app.tasks import ImageTask, Kind, TextTask, VideoTask

MEGA = 1e6
NEWEST = 0.2
"""Weight of the newest measurement in an average."""
SHAPES_KEPT = 256
"""How many shapes are remembered. Callers choose shapes, so there is a limit; the oldest measurement goes first."""
USUAL_STEPS = 30
"""Assumed steps of a task that leaves them to its model."""
GUESSED: dict[Kind, float] = {"text": 0.005, "image": 0.05, "video": 0.02}
"""Engine seconds per unit before anything was measured. Only the order of magnitude matters."""
WANTED = "_replicas_wanted"
REPLICA_S = "_replica_seconds"
FRESH_S = 30.0
"""A report older than this is ignored: three of Serve's push intervals."""
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Work:
    """What one request asks of an engine. Requests of one `shape` cost the same per unit.

    A unit is a token of text, a megapixel-step of an image, a megapixel-frame-step of a video.
    """

    kind: Kind
    shape: str
    units: float


def work_of(task: TextTask | ImageTask | VideoTask) -> Work:
    """The most work that a task can be: a text may end before its `max_tokens`."""
    if isinstance(task, TextTask):
        return Work("text", "tokens", float(task.max_tokens))
    pixels = task.width * task.height / MEGA
    size = f"{task.width}x{task.height}"
    caching = f" {task.step_caching.method}" if task.step_caching else ""
    steps = task.num_inference_steps or USUAL_STEPS
    if isinstance(task, ImageTask):
        return Work("image", f"{size}x{steps}{caching}", pixels * steps * task.n)
    return Work("video", f"{size}x{task.num_frames}x{steps}{caching}", pixels * task.num_frames * steps)


class CostModel:
    """Measured engine seconds per unit of one model's work: of a shape where it was seen, else the mean, else a guess.

    An average that leans to the newest, so that it follows a new model or a faster engine.
    """

    def __init__(self) -> None:
        self._mean: float | None = None
        self._shapes: OrderedDict[str, float] = OrderedDict()

    @property
    def measured(self) -> bool:
        """Whether any generation has been seen."""
        return self._mean is not None

    def observe(self, work: Work, seconds: float) -> None:
        """Learns from a finished generation. One without a time (a replayed result) is ignored."""
        if work.units <= 0 or not (0 < seconds < math.inf):
            return
        per_unit = seconds / work.units
        self._mean = _leaning(self._mean, per_unit)
        self._shapes[work.shape] = _leaning(self._shapes.pop(work.shape, None), per_unit)
        if len(self._shapes) > SHAPES_KEPT:
            self._shapes.popitem(last=False)

    def seconds(self, work: Work) -> float:
        """The engine seconds that this work is expected to take."""
        per_unit = self._shapes.get(work.shape) or self._mean or GUESSED[work.kind]
        return per_unit * work.units


def _leaning(before: float | None, newest: float) -> float:
    return newest if before is None else before + NEWEST * (newest - before)


def replicas_wanted(engine_seconds: Iterable[float], target_wait_s: float, lanes: int = 1) -> float:
    """The replicas, as a fraction, that keep the wait of what is under way at `target_wait_s`; callers may be summed.

    `engine_seconds` holds the cost of each request under way, running or waiting; a replica runs `lanes` at once. With
    n requests of s seconds on R replicas the last one waits for (n - R lanes) / (R lanes) turns of s seconds. Set that
    to the target t and solve: R = n s / (s + t) / lanes, so each request asks for s / (s + t) of a lane. A long
    generation that runs alone asks for no second replica, and many short ones share one.
    """
    return sum(seconds / (seconds + target_wait_s) for seconds in engine_seconds) / lanes


@dataclass(frozen=True, slots=True)
class Demand:
    """What is under way for one model: engine seconds divided by lanes, and the replicas that this asks for."""

    replica_s: float = 0.0
    wanted: float = 0.0

    @classmethod
    def of(cls, engine_seconds: Iterable[float], target_wait_s: float, lanes: int = 1) -> Demand:
        """Sums over the requests under way; `lanes` is how many one replica runs at once."""
        each = list(engine_seconds)
        return cls(sum(each) / lanes, replicas_wanted(each, target_wait_s, lanes))

    def __add__(self, other: Demand) -> Demand:
        return Demand(self.replica_s + other.replica_s, self.wanted + other.wanted)


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
                self._seconds[name] = _leaning(self._seconds.get(name), now - since)
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


class Context(Protocol):
    """What the policy reads of Ray Serve's AutoscalingContext of one deployment."""

    current_num_replicas: int
    target_num_replicas: int
    total_num_requests: float
    raw_metrics: Points
    current_time: float
    config: Any


Deployment = TypeVar("Deployment")


class WaitPolicy:
    """Ray Serve's application-level policy (2.60 runs it, though its schema says that it is not yet supported).

    A deployment with `model` in its `policy_kwargs` follows the demand that all ingress replicas report by that name;
    any other (the ingress itself) follows Serve's own rule, ongoing requests over `target_ongoing_requests`. While no
    fresh report is there the count stays. Serve starts the first replica from zero itself, as soon as a request waits.
    """

    def __init__(self) -> None:
        self.cold_starts = ColdStarts()

    def __call__(
        self, contexts: Mapping[Deployment, Context]
    ) -> tuple[dict[Deployment, int], dict[Deployment, dict[str, Any]]]:
        targets: dict[Deployment, int] = {}
        for deployment, context in contexts.items():
            wanted = self._wanted(context, contexts.values())
            if wanted is not None:
                targets[deployment] = wanted
        return targets, {}

    def _wanted(self, context: Context, every: Iterable[Context]) -> int | None:
        name = context.config.policy.policy_kwargs.get("model")
        ongoing = context.total_num_requests
        if name is None:
            return math.ceil(ongoing / context.config.get_target_ongoing_requests())
        now = context.current_time
        running, target = context.current_num_replicas, context.target_num_replicas
        self.cold_starts.see(name, running=running, target=target, now=now)
        demand = reported(name, [context.raw_metrics for context in every], now)
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
