"""Waits for work that must never be left behind: whoever is cancelled stops it, and goes on when it has ended."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
E = TypeVar("E")


async def finish(work: asyncio.Future[T], stop: Callable[[], object]) -> T:
    """What `work` gives. A cancel calls `stop`, and is raised when `work` has ended."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop()
        await wait_out(work)
        raise


async def follow(work: Callable[[Callable[[E], None]], Coroutine[Any, Any, None]]) -> AsyncGenerator[E]:
    """What `work` emits while it runs, never None. Closing it cancels the work and waits until it has ended."""
    events: asyncio.Queue[E | None] = asyncio.Queue()  # None ends it
    task = asyncio.ensure_future(work(events.put_nowait))
    task.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while (event := await events.get()) is not None:
            yield event
        await task
    finally:
        task.cancel()
        await wait_out(task)


async def wait_out(work: asyncio.Future[T]) -> None:
    """Waits for `work`, however often the waiting task is cancelled. Nobody wants its result any more."""
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            continue
    if not work.cancelled():
        work.exception()  # marks it as seen
