"""One thread that runs blocking pipeline calls off the event loop, one at a time, and can be told to stop.

Knows nothing about pipelines: work is a function that takes a `Run`, calls `run.check()` at each step and reports
through `run.post`.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

from serve_app.errors import EngineDied, GenerationFailed, ServeError
from serve_app.waiting import finish, follow

T = TypeVar("T")
E = TypeVar("E")


class Stopped(Exception):
    """Raised inside work whose caller has gone: it unwinds the pipeline from within a step callback."""


class Run:
    """One call in the thread, as the work sees it: whether its caller has gone, and how to report to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stop = threading.Event()

    def check(self) -> None:
        """Raises Stopped when the caller has gone."""
        if self._stop.is_set():
            raise Stopped

    def post(self, call: Callable[[E], None], value: E) -> None:
        """Calls `call(value)` on the caller's event loop, in the order of the posts."""
        self._loop.call_soon_threadsafe(call, value)

    def stop(self) -> None:
        self._stop.set()


class Worker:
    """`threads` is the number of threads that torch uses for one operation."""

    def __init__(self, name: str, threads: int) -> None:
        self._executor = ThreadPoolExecutor(1, name, initializer=torch.set_num_threads, initargs=(threads,))
        self._died: str | None = None

    async def run(self, work: Callable[[Run], T]) -> T:
        """What `work` returns. When cancelled, stops the work and waits until the thread is free."""
        loop = asyncio.get_running_loop()
        run = Run(loop)
        return await finish(loop.run_in_executor(self._executor, self._guarded, work, run), run.stop)

    def stream(self, work: Callable[[Run, Callable[[E], None]], None]) -> AsyncGenerator[E]:
        """What `work` emits while it runs, never None. Closing it stops the run and waits until the thread is free."""

        async def whole(emit: Callable[[E], None]) -> None:
            await self.run(lambda run: work(run, partial(run.post, emit)))

        return follow(whole)

    def check_health(self) -> None:
        if self._died is not None:
            raise EngineDied(self._died)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _guarded(self, work: Callable[[Run], T], run: Run) -> T:
        """Runs `work` and translates every foreign error into one of ours."""
        try:
            run.check()
            self.check_health()
            return work(run)
        except (ServeError, Stopped):
            raise
        except torch.OutOfMemoryError as error:
            raise GenerationFailed(f"The device ran out of memory: {error}") from error
        except torch.AcceleratorError as error:
            # after such an error the CUDA context of this process is unusable
            self._died = f"The device failed: {error}"
            raise EngineDied(self._died) from error
        except Exception as error:
            raise GenerationFailed(f"{type(error).__name__}: {error}") from error
