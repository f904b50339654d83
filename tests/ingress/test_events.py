from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.types import Message, Receive

from serve_app.errors import GenerationFailed, QueueFull
from serve_app.ingress.events import EventStream, event

Sent = list[Message]


def forever() -> Receive:
    """A client that stays."""

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    return receive


async def run(stream: EventStream, receive: Receive | None = None, sent: Sent | None = None) -> Sent:
    sent = [] if sent is None else sent

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "method": "POST", "path": "/x", "state": {"request_id": "r"}}
    await stream(scope, receive or forever(), send)
    return sent


def text(sent: Sent) -> str:
    return b"".join(message.get("body", b"") for message in sent).decode()


def test_an_event_is_one_line_of_data() -> None:
    assert event({"a": "x\ny"}, "name") == b'event: name\ndata: {"a":"x\\ny"}\n\n'
    assert event("\u2028") == 'data: "\u2028"\n\n'.encode()


async def test_events_go_out_as_they_come() -> None:
    async def events() -> AsyncGenerator[bytes]:
        yield event(1)
        yield event(2)

    sent = await run(EventStream(events()))
    assert sent[0]["status"] == 200
    headers = dict(sent[0]["headers"])  # proxies hold nothing back
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert (headers[b"cache-control"], headers[b"x-accel-buffering"]) == (b"no-cache", b"no")
    assert text(sent) == "data: 1\n\ndata: 2\n\n"
    assert sent[-1]["more_body"] is False


async def test_an_error_before_the_first_event_has_its_status() -> None:
    async def events() -> AsyncGenerator[bytes]:
        raise QueueFull("full")
        yield b""

    with pytest.raises(QueueFull):
        await run(EventStream(events()))


async def test_a_later_error_is_an_event_and_the_end() -> None:
    async def events() -> AsyncGenerator[bytes]:
        yield event(1)
        raise GenerationFailed("the engine broke")

    sent = await run(EventStream(events()))
    assert text(sent).startswith('data: 1\n\nevent: error\ndata: {"error":{"message":"the engine broke"')
    assert sent[-1]["more_body"] is False


async def test_a_mistake_of_ours_is_told_without_internals() -> None:
    async def events() -> AsyncGenerator[bytes]:
        yield event(1)
        raise RuntimeError("secret")

    sent = await run(EventStream(events()))
    assert "secret" not in text(sent)
    assert '"internal_error"' in text(sent)


async def test_silence_is_filled_with_comments() -> None:
    async def events() -> AsyncGenerator[bytes]:
        await asyncio.sleep(0.05)
        yield event(1)

    sent = await run(EventStream(events(), keep_alive_s=0.02))
    assert text(sent).startswith(": keep-alive\n\n")
    assert text(sent).endswith("data: 1\n\n")


async def test_an_error_after_a_comment_is_an_event() -> None:
    sent: Sent = []

    async def events() -> AsyncGenerator[bytes]:
        while not sent:  # noqa: ASYNC110
            await asyncio.sleep(0)
        raise QueueFull("full")
        yield b""

    await run(EventStream(events(), keep_alive_s=0), sent=sent)
    assert [message["type"] for message in sent].count("http.response.start") == 1
    assert text(sent).startswith(": keep-alive\n\n")
    assert '\n\nevent: error\ndata: {"error":{"message":"full"' in text(sent)


async def ended(response: asyncio.Task[Sent]) -> None:
    """Returns when the response has ended by itself; a timeout would cancel it, and that would close its events."""
    assert (await asyncio.wait({response}, timeout=30))[0]


@pytest.mark.parametrize("silent", [True, False])
async def test_a_client_that_goes_away_closes_the_events(silent: bool) -> None:
    closed = asyncio.Event()

    async def events() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield event(1)
                if silent:
                    await asyncio.Event().wait()
        finally:
            closed.set()

    async def receive() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.disconnect"}

    made = events()  # held, or it would be closed as garbage
    await ended(asyncio.create_task(run(EventStream(made), receive)))
    assert closed.is_set()


async def test_cancelling_the_response_closes_the_events() -> None:
    began, closed = asyncio.Event(), asyncio.Event()

    async def events() -> AsyncGenerator[bytes]:
        try:
            yield event(1)
            began.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    response = asyncio.create_task(run(EventStream(events())))
    await began.wait()
    response.cancel()
    await ended(response)
    assert response.cancelled()
    assert closed.is_set()
