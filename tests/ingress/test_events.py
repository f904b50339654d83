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


async def run(stream: EventStream, receive: Receive | None = None) -> Sent:
    sent: Sent = []

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


@pytest.mark.parametrize("silent", [True, False])
async def test_a_client_that_goes_away_closes_the_events(silent: bool) -> None:
    closed = asyncio.Event()

    async def events() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield event(1)
                await asyncio.sleep(60 if silent else 0)
        finally:
            closed.set()

    async def receive() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.disconnect"}

    async with asyncio.timeout(2):
        await run(EventStream(events()), receive)
        await closed.wait()


async def test_cancelling_the_response_closes_the_events() -> None:
    closed = asyncio.Event()

    async def events() -> AsyncGenerator[bytes]:
        try:
            yield event(1)
            await asyncio.sleep(60)
        finally:
            closed.set()

    response = asyncio.create_task(run(EventStream(events())))
    await asyncio.sleep(0.02)
    response.cancel()
    with pytest.raises(asyncio.CancelledError):
        await response
    assert closed.is_set()
