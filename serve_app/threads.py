"""Thread pools, one for each kind of call that may hang, so that it blocks only calls of its kind.

The event loop's own pool has few threads: a slow name server once took them all, and file access stopped too.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Pool:
    """At most `threads` threads, started when needed. Further calls wait."""

    def __init__(self, name: str, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, name)

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs `call` in one of the threads, as `asyncio.to_thread` does, and returns its result."""
        here = contextvars.copy_context()
        work: Callable[[], Any] = partial(here.run, call, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
