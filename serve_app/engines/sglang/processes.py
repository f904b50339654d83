"""The worker processes of one engine: whether they live, and their end. Knows nothing of what they compute.

A process is watched through its pidfd (Linux 5.3), which turns readable when it ends, whoever reaps it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable

import psutil


class Processes:
    """Processes by id, each with the name that an error shows."""

    def __init__(self, named: Iterable[tuple[int, str]]) -> None:
        self._names = {os.pidfd_open(pid): (pid, name) for pid, name in named}

    @property
    def pids(self) -> list[int]:
        return [pid for pid, _ in self._names.values()]

    def ended(self) -> str | None:
        """The name of one that has ended, if any."""
        ready = self._ended(0)
        return self._names[ready[0]][1] if ready else None

    def kill(self, wait_s: float = 10.0) -> None:
        """Ends them and all that they started, and waits until they are gone; safe to call twice."""
        if not self._names:
            return
        for parent in self.pids:
            for pid in (*reversed(descendants(parent)), parent):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + wait_s
        while len(self._ended(0.1)) < len(self._names) and time.monotonic() < deadline:
            time.sleep(0.02)
        for fd, (pid, _) in self._names.items():
            # a zombie holds its name and its place until its parent, usually us, asks for it
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            os.close(fd)
        self._names = {}

    def _ended(self, wait_s: float) -> list[int]:
        poll = select.poll()
        for fd in self._names:
            poll.register(fd, select.POLLIN)
        return [fd for fd, _ in poll.poll(wait_s * 1000)]


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, children before their own children."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
