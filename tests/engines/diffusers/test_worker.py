from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest
import torch

from serve_app.engines.diffusers.worker import Run, Worker
from serve_app.errors import EngineDied, GenerationFailed, InvalidRequest


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker("test", 1)
    yield worker
    worker.close()


async def test_runs_off_the_loop_and_posts_in_order(worker: Worker) -> None:
    seen: list[int] = []

    def work(run: Run) -> str:
        for step in range(5):
            run.post(seen.append, step)
        return threading.current_thread().name

    assert (await worker.run(work)).startswith("test")
    assert seen == [0, 1, 2, 3, 4]


async def test_one_job_at_a_time(worker: Worker) -> None:
    running: list[int] = []

    def work(run: Run) -> int:
        running.append(1)
        time.sleep(0.01)
        most = len(running)
        running.pop()
        return most

    assert await asyncio.gather(*(worker.run(work) for _ in range(4))) == [1, 1, 1, 1]


async def test_a_cancel_ends_only_when_the_thread_is_free(worker: Worker) -> None:
    started, steps, ended = asyncio.Event(), [0], threading.Event()

    def work(run: Run) -> None:
        run.post(lambda _: started.set(), None)
        try:
            while True:
                run.check()
                steps[0] += 1
                time.sleep(0.01)
        finally:
            time.sleep(0.05)
            ended.set()

    task = asyncio.create_task(worker.run(work))
    await started.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # once more, while it waits for the thread
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    assert await worker.run(lambda _: "next") == "next"


async def test_a_job_cancelled_while_it_waits_never_begins(worker: Worker) -> None:
    begun: list[str] = []
    release = threading.Event()
    first = asyncio.create_task(worker.run(lambda _: release.wait(5)))
    second = asyncio.create_task(worker.run(lambda _: begun.append("second")))
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.sleep(0.01)
    release.set()
    await first
    with pytest.raises(asyncio.CancelledError):
        await second
    assert begun == []


async def test_a_stream_gives_events_before_the_work_ends(worker: Worker) -> None:
    go_on = threading.Event()

    def work(run: Run, emit: Callable[[str], None]) -> None:
        emit("first")
        assert go_on.wait(5)
        emit("second")

    events: list[str] = []
    async with aclosing(worker.stream(work)) as stream:
        async for event in stream:
            events.append(event)
            go_on.set()
    assert events == ["first", "second"]


async def test_closing_a_stream_stops_the_work(worker: Worker) -> None:
    ended = threading.Event()

    def work(run: Run, emit: Callable[[int], None]) -> None:
        try:
            for step in range(10_000):
                run.check()
                emit(step)
                time.sleep(0.005)
        finally:
            ended.set()

    async with aclosing(worker.stream(work)) as stream:
        assert await anext(stream) == 0
    assert ended.is_set()


async def test_an_error_ends_a_stream_after_its_events(worker: Worker) -> None:
    def work(run: Run, emit: Callable[[int], None]) -> None:
        emit(1)
        raise RuntimeError("shapes do not match")

    stream = worker.stream(work)
    assert await anext(stream) == 1
    with pytest.raises(GenerationFailed, match="RuntimeError: shapes do not match"):
        await anext(stream)


async def test_errors_become_ours(worker: Worker) -> None:
    async def fail(error: Exception) -> None:
        def work(run: Run) -> None:
            raise error

        await worker.run(work)

    with pytest.raises(InvalidRequest, match="too long"):
        await fail(InvalidRequest("too long"))
    with pytest.raises(GenerationFailed, match="out of memory"):
        await fail(torch.OutOfMemoryError("CUDA out of memory"))
    worker.check_health()
    with pytest.raises(EngineDied, match="illegal access"):
        await fail(torch.AcceleratorError("illegal access"))
    with pytest.raises(EngineDied, match="illegal access"):
        worker.check_health()
    with pytest.raises(EngineDied):
        await worker.run(lambda _: None)
