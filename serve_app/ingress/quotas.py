"""What this ingress replica lets in: rate and concurrency limits of each API key, and the gate that a drain shuts.

The rate is a sliding window: never more than the limit in any 60 seconds. With several ingress replicas a key gets
up to the limit from each; one shared count would cost every request a round trip.
"""

import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from serve_app.errors import RateLimited, Unavailable
from serve_app.settings import AccessSettings

WINDOW_S = 60.0
DRAINING_RETRY_S = 5.0


class Quotas:
    """What each owner has used. `clock` gives seconds that never fall."""

    def __init__(self, access: AccessSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._access = access
        self._clock = clock
        self._running = Counter[str]()
        self._started: defaultdict[str, deque[float]] = defaultdict(deque)

    @contextmanager
    def admit(self, owner: str) -> Generator[None]:
        """Holds a place for one request. RateLimited says when there will be one."""
        running, access = self._running[owner], self._access
        if access.concurrency is not None and running >= access.concurrency:
            raise RateLimited(f"{running} requests of this key are under way, the limit.", retry_after_s=1.0)
        if access.requests_per_minute is not None:
            self._check_rate(self._started[owner], access.requests_per_minute)
        self._running[owner] += 1
        try:
            yield
        finally:
            self._running[owner] -= 1

    def _check_rate(self, started: deque[float], most: int) -> None:
        now = self._clock()
        while started and started[0] <= now - WINDOW_S:
            started.popleft()
        if len(started) >= most:
            wait = math.ceil(started[0] + WINDOW_S - now)
            raise RateLimited(f"Above {most} requests a minute.", retry_after_s=float(max(wait, 1)))
        started.append(now)


@dataclass(slots=True)
class Gate:
    """The gate in front of all work: shut while the server drains. `inside` counts admitted requests under way.

    Work is a POST below /v1 that starts something. Reading a job, a file or the health is always allowed.
    `diffusion-serve up` shuts the gate; see `Ingress.drain`.
    """

    shut: bool = False
    inside: int = 0

    def check(self) -> None:
        """Raises Unavailable while the gate is shut."""
        if self.shut:
            raise Unavailable("The server is draining: it takes no new work.", retry_after_s=DRAINING_RETRY_S)

    @contextmanager
    def passed(self) -> Generator[None]:
        """Counts one request from here to the last byte of its answer."""
        self.check()
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
