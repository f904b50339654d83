"""Counts one model's work in this ingress, admits more or refuses it, and says when to retry.

Pure counting over the measured costs of `autoscaling.CostModel`. Knows no HTTP, no Ray and nothing of the other ingress
replicas.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from serve_app.autoscaling import CostModel, Demand, Work
from serve_app.errors import QueueFull
from serve_app.model_settings import AnyModel, TextSettings

LONGEST_RETRY_S = 600.0
UNMEASURED_RETRY_S = 1.0


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
    def of(cls, model: AnyModel) -> Load:
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
        if not self.under_way or not self.costs.measured:
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

    def finished(self, work: Work, engine_s: float) -> None:
        """Learns what this work cost, for later estimates."""
        self.costs.observe(work, engine_s)
