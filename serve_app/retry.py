"""Calls something again after an error that may pass, with growing pauses. All retry loops of ours use it."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def retry(
    call: Callable[[], Awaitable[T]],
    passes: Callable[[Exception, float], bool],
    *,
    first_s: float = 0.2,
    longest_s: float = 5.0,
    patience_s: float = float("inf"),
) -> T:
    """Returns what `call` returns. After an error calls it again: after `first_s`, then twice that, up to `longest_s`.

    `passes(error, pause in seconds)` says whether to try again. The error is raised if not, and if the next call would
    start after `patience_s`. Pauses are random within a factor of two, so that many callers do not come back at once.
    """
    deadline = time.monotonic() + patience_s
    pause_s = first_s
    while True:
        try:
            return await call()
        except Exception as error:
            wait_s = pause_s * random.uniform(0.5, 1.0)  # noqa: S311
            if time.monotonic() + wait_s > deadline or not passes(error, wait_s):
                raise
        await asyncio.sleep(wait_s)
        pause_s = min(2 * pause_s, longest_s)
