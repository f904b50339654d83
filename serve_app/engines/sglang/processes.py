"""The worker processes of one engine: their ports, whether they live, and their end. Knows not what they compute.

SGLang's sockets carry unauthenticated pickles, so they are bound to loopback only. Ray hands 10002-19999 to its workers
and SGLang's own defaults begin at 30000: two replicas on one machine must meet neither those nor each other.
"""

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

import psutil

from serve_app.errors import EngineDied

T = TypeVar("T")
WATCH_S = 0.2
FIRST, LAST = 20000, 28900
"""SGLang adds up to 1000 to one of them for NCCL and must stay below 30000."""


class Processes:
    """Processes by id, each with the name that an error shows. `died` is why nobody may ask them any more."""

    def __init__(self, named: Iterable[tuple[int, str]]) -> None:
        self._named = [(psutil.Process(pid), name) for pid, name in named]
        self.died: str | None = None
        self._looked = 0.0

    def check(self) -> None:
        """Raises EngineDied once one of them has ended."""
        self._looked = time.monotonic()
        ended = (f"The worker process {name} ended." for process, name in self._named if not _lives(process))
        self.died = self.died or next(ended, None)
        if self.died is not None:
            raise EngineDied(self.died)

    async def watch(self, work: asyncio.Future[T], look: Callable[[], object] = lambda: None) -> T:
        """What `work` gives; EngineDied where a process ends meanwhile. Until then `look` is called every 0.2 s."""
        while not (await asyncio.wait({work}, timeout=WATCH_S))[0]:
            # many may wait at once: one look serves all
            if self.died is not None or time.monotonic() - self._looked >= WATCH_S:
                self.check()
            look()
        return work.result()

    def kill(self, wait_s: float = 10.0) -> None:
        """Ends them and all that they started, and waits until they are gone; safe to call twice."""
        self.died = self.died or "The engine was closed."
        for process, _ in self._named:
            for pid in (*reversed(descendants(process.pid)), process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()
        # also asks for how they ended: until then a child of ours holds its name and its place
        psutil.wait_procs([process for process, _ in self._named], timeout=wait_s)
        self._named = []


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, children before their own children."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def free_ports(count: int) -> list[int]:
    """`count` different ports that nothing listens on now; drawn at random, so that two replicas seldom race."""
    drawn = random.SystemRandom().sample(range(FIRST, LAST), 200)
    found = list(islice(filter(_is_free, drawn), count))
    if len(found) < count:
        raise OSError(f"no {count} free ports between {FIRST} and {LAST}")
    return found


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            # on every address, as SGLang probes, so that it takes the port as it stands
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
