"""Tries again what failed for a passing reason, ever less often: the one loop that does so."""

from __future__ import annotations

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
    first_s: float,
    longest_s: float,
    patience_s: float = float("inf"),
) -> T:
    """What `call` gives. After an error it is called again in `first_s`, then in twice that, up to `longest_s`.

    `passes` is told of each error and of the seconds until the next call, and says whether there shall be one. The
    error is raised where not, and where that call would begin after `patience_s`. Pauses vary, so that many who failed
    at once do not come back at once.
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
