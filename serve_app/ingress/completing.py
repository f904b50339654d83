"""Runs completions for the chat and completions routes: in one answer or as events, admitted and measured."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, aclosing
from typing import Any, Protocol, TypedDict

from serve_app.autoscaling import work_of
from serve_app.ingress.load import Load
from serve_app.ingress.services import TextClient
from serve_app.ingress.streaming import DONE, event
from serve_app.protocol.text import DENOISING
from serve_app.tasks import TextBlock, TextEnd, TextEvent, TextResult, TextStep, TextTask, Timing


class Named(TypedDict):
    """The first fields of each answer and each chunk of a stream."""

    id: str
    created: int
    model: str
    hints: list[str]


class Chunks(Protocol):
    """Makes the chunks of a stream: ChatChunks and CompletionChunks."""

    def block(self, index: int, text: str) -> Any: ...

    def end(self, index: int, end: TextEnd) -> Any: ...

    def step(self, index: int, step: TextStep) -> Any: ...

    def usage(self, ends: Sequence[TextEnd]) -> Any: ...


async def complete(client: TextClient, load: Load, tasks: Sequence[TextTask]) -> list[TextResult]:
    """Runs all tasks at the same time and returns their results. If one fails, the others are cancelled."""
    with admitted(load, tasks):
        if len(tasks) == 1:
            results = [await client.complete(tasks[0])]
        else:
            try:
                async with asyncio.TaskGroup() as group:
                    running = [group.create_task(client.complete(task)) for task in tasks]
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from failed
            results = [one.result() for one in running]
    for task, result in zip(tasks, results, strict=True):
        load.finished(work_of(task), result.end.timing.engine_s)
    return results


async def run(client: TextClient, load: Load, tasks: Sequence[TextTask]) -> AsyncGenerator[tuple[int, TextEvent], None]:
    """The events of all tasks as they come, each with the number of its task."""
    with admitted(load, tasks):
        async with aclosing(merged([client.stream(task) for task in tasks])) as events:
            async for index, one in events:
                if isinstance(one, TextEnd):
                    load.finished(work_of(tasks[index]), one.timing.engine_s)
                yield index, one


async def stream(
    events: AsyncGenerator[tuple[int, TextEvent], None], chunks: Chunks, *, include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The server-sent events of a run, then usage where asked for, then [DONE]."""
    ends: dict[int, TextEnd] = {}
    async with aclosing(events):
        async for index, one in events:
            if isinstance(one, TextBlock):
                yield event(chunks.block(index, one.text))
            elif isinstance(one, TextStep):
                yield event(chunks.step(index, one), DENOISING)
            else:
                ends[index] = one
                yield event(chunks.end(index, one))
    if include_usage:
        yield event(chunks.usage([ends[index] for index in sorted(ends)]))
    yield DONE


async def events_of(results: Sequence[TextResult]) -> AsyncGenerator[tuple[int, TextEvent], None]:
    """The events of finished results: each text as one block."""
    for index, result in enumerate(results):
        if result.text:
            yield index, TextBlock(block=0, text=result.text, tokens=result.end.completion_tokens)
        yield index, result.end


def admitted(load: Load, tasks: Sequence[TextTask]) -> ExitStack:
    """Admits all tasks, or none: then it raises QueueFull."""
    with ExitStack() as stack:
        for task in tasks:
            stack.enter_context(load.admit(work_of(task)))
        return stack.pop_all()


async def merged(
    streams: Sequence[AsyncGenerator[TextEvent, None]],
) -> AsyncGenerator[tuple[int, TextEvent], None]:
    """The events of several streams as they come, each with the number of its stream; closing it closes them all."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for one in only:
                yield 0, one
        return
    queue: asyncio.Queue[tuple[int, TextEvent] | Exception | None] = asyncio.Queue(maxsize=len(streams))

    async def pump(index: int) -> None:
        try:
            async with aclosing(streams[index]) as events:
                async for one in events:
                    await queue.put((index, one))
            await queue.put(None)
        except Exception as error:  # noqa: BLE001 carried to the reader, who raises it
            await queue.put(error)

    pumps = [asyncio.create_task(pump(index)) for index in range(len(streams))]
    try:
        left = len(pumps)
        while left:
            got = await queue.get()
            if isinstance(got, Exception):
                raise got
            if got is None:
                left -= 1
            else:
                yield got
    finally:
        for one in pumps:
            one.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


def together(results: Sequence[TextResult]) -> Timing:
    """One timing for completions that ran at the same time: the longest of each part."""
    timings = [result.end.timing for result in results]
    if len(timings) == 1:
        return timings[0]
    return Timing(
        queue_s=max(one.queue_s for one in timings),
        engine_s=max(one.engine_s for one in timings),
        encode_s=max(one.encode_s for one in timings),
        storage_s=max(one.storage_s for one in timings),
        gpu_s=sum(one.gpu_s for one in timings),
    )
