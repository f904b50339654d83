"""Pools of threads, one for each thing that may hang, so that what hangs holds up only its like.

The event loop's own pool has a handful of threads: a slow name server took them all, and with them every file.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Pool:
    """At most `threads` at once, started as they are needed; what comes beyond that waits."""

    def __init__(self, name: str, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, name)

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What `call` returns, run in one of the threads; as `asyncio.to_thread` otherwise."""
        here = contextvars.copy_context()
        work: Callable[[], Any] = partial(here.run, call, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
