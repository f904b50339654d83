"""What requests cost a model's engine, and what is under way: plain numbers, by which an ingress admits work.

Requests differ a thousandfold in cost (a one-step thumbnail, a fifty-step video), so counting them says little. What
counts is the work that waits, in engine seconds. `CostModel` learns what a shape costs from finished generations;
`Load` sums it over what one ingress has under way for one model, admits more or refuses it, says when to retry, and
reports a `Demand` to `autoscaling.py`. Knows no HTTP, no Ray and nothing of the other ingress replicas.
"""

import math
from collections import OrderedDict
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from serve_app.errors import QueueFull
from serve_app.model_settings import AnyModel, TextSettings
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
LONGEST_RETRY_S = 600.0
UNMEASURED_RETRY_S = 1.0


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
        self.mean: float | None = None  # until any generation has been seen
        self._shapes: OrderedDict[str, float] = OrderedDict()

    def observe(self, work: Work, seconds: float) -> None:
        """Learns from a finished generation. One without a time (a replayed result) is ignored."""
        if work.units <= 0 or not (0 < seconds < math.inf):
            return
        per_unit = seconds / work.units
        self.mean = leaning(self.mean, per_unit)
        self._shapes[work.shape] = leaning(self._shapes.pop(work.shape, None), per_unit)
        if len(self._shapes) > SHAPES_KEPT:
            self._shapes.popitem(last=False)

    def seconds(self, work: Work) -> float:
        """The engine seconds that this work is expected to take."""
        per_unit = self._shapes.get(work.shape) or self.mean or GUESSED[work.kind]
        return per_unit * work.units


def leaning(before: float | None, newest: float) -> float:
    """An average of measurements that leans to the newest."""
    return newest if before is None else before + NEWEST * (newest - before)


@dataclass(frozen=True, slots=True)
class Demand:
    """What is under way for one model: engine seconds divided by lanes, and the replicas, as a fraction, that keep the
    wait at its target.
    """

    replica_s: float = 0.0
    wanted: float = 0.0

    @classmethod
    def of(cls, engine_seconds: Iterable[float], target_wait_s: float, lanes: int = 1) -> Self:
        """Sums over the requests under way, running or waiting; `lanes` is how many one replica runs at once.

        With n requests of s seconds on R replicas the last one waits for (n - R lanes) / (R lanes) turns of s seconds.
        Set that to the target t and solve: R = n s / (s + t) / lanes, so each request asks for s / (s + t) of a lane. A
        long generation that runs alone asks for no second replica, and many short ones share one.
        """
        each = list(engine_seconds)
        return cls(sum(each) / lanes, sum(seconds / (seconds + target_wait_s) for seconds in each) / lanes)


@dataclass(slots=True)
class Load:
    """`limit` requests may be under way at once: `lanes` of them run, the others wait."""

    limit: int
    lanes: int
    lanes_per_replica: int = 1
    target_wait_s: float = 30.0
    costs: CostModel = field(default_factory=CostModel)
    under_way: list[Work] = field(default_factory=list[Work])

    @classmethod
    def of(cls, model: AnyModel) -> Self:
        """Room for what the largest number of replicas can run, plus `max_queued` waiting."""
        per_replica = model.max_running_requests if isinstance(model, TextSettings) else 1
        lanes = model.replicas.max * per_replica
        return cls(lanes + model.max_queued, lanes, per_replica, model.replicas.target_wait_s)

    @property
    def waiting_s(self) -> float:
        """Engine seconds in the work under way, as far as measured."""
        return sum(self.costs.seconds(work) for work in self.under_way)

    @property
    def retry_after_s(self) -> float:
        """When the next place will be free: the mean time of what is under way, shared by the lanes; at least 1."""
        if not self.under_way or self.costs.mean is None:
            return UNMEASURED_RETRY_S
        mean_s = self.waiting_s / len(self.under_way)
        return float(min(max(math.ceil(mean_s / self.lanes), 1), LONGEST_RETRY_S))

    def waiting(self, replicas: int) -> int:
        """How many requests wait for their turn, where so many replicas run."""
        return max(0, len(self.under_way) - replicas * self.lanes_per_replica)

    def expected_wait_s(self, replicas: int) -> float:
        """How long a request that came now would wait, as far as measured; 0 where a lane is free."""
        lanes = max(replicas, 1) * self.lanes_per_replica
        return self.waiting_s / lanes if len(self.under_way) >= lanes else 0.0

    @contextmanager
    def admit(self, work: Work) -> Generator[None]:
        """Holds a place for one request; raises QueueFull where none is left.

        A QueueFull from inside, of a replica's own queue, learns here when to come back.
        """
        if len(self.under_way) >= self.limit:
            raise QueueFull(
                f"{len(self.under_way)} requests of this model are under way, which is the limit. Retry later.",
                retry_after_s=self.retry_after_s,
            )
        self.under_way.append(work)
        try:
            yield
        except QueueFull as full:
            full.retry_after_s = full.retry_after_s or self.retry_after_s
            raise
        finally:
            self.under_way.remove(work)

    def demand(self) -> Demand:
        """What is under way, as the autoscaling policy wants to know it."""
        seconds = (self.costs.seconds(work) for work in self.under_way)
        return Demand.of(seconds, self.target_wait_s, self.lanes_per_replica)
