"""The latest answer of a slow function, for callers that must not wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Calls at most once per `keep_s`, in its own thread. The value is `first` until there is an answer.

    An answer that takes longer than `patience_s` is waited for by nobody: the one before it stands until it comes.
    """

    def __init__(self, ask: Callable[[], T], first: T, *, keep_s: float = 1.0, patience_s: float = 2.0) -> None:
        self._ask = ask
        self._answer = first
        self._keep_s = keep_s
        self._patience_s = patience_s
        # not in the loop's own pool: a call that hangs would block one of its few threads
        self._thread = ThreadPoolExecutor(1, "latest")
        self._asking: asyncio.Future[T] | None = None
        self._asked_at = float("-inf")

    async def __call__(self) -> T:
        now = time.monotonic()
        if self._asking is None and now >= self._asked_at + self._keep_s:
            self._asking, self._asked_at = asyncio.get_running_loop().run_in_executor(self._thread, self._ask), now
        if (asking := self._asking) is not None:
            await asyncio.wait({asking}, timeout=max(0.0, self._asked_at + self._patience_s - now))
            if asking.done() and asking is self._asking:
                self._asking, self._asked_at = None, time.monotonic()
                self._answer = asking.result()
        return self._answer
