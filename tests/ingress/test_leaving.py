"""A client that leaves in the middle of a stream: when its request has ended, so has what it asked of the models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
import pytest

from serve_app.ingress.asgi import create_http_app
from serve_app.ingress.services import ModelClient, Services
from tests.ingress.conftest import Loop, client_of, with_client

LONG = {"max_tokens": 256, "nvext": {"ignore_eos": True}, "n": 2}
DRAWN = {"size": "256x256", "partial_images": 3, "nvext": {"num_inference_steps": 20}}
STREAMS: list[tuple[str, str, dict[str, Any]]] = [
    ("text", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Count from 10 to 30."}], **LONG}),
    ("text", "/v1/completions", {"prompt": "Once upon a time,", **LONG}),
    ("image", "/v1/images/generations", {"prompt": "a fox", **DRAWN}),
]


class Counting:
    """A client that counts its open streams."""

    def __init__(self, inner: ModelClient) -> None:
        self._inner = inner
        self.opened = self.open = 0

    async def describe(self) -> Any:
        return await self._inner.describe()

    async def stream(self, task: Any) -> AsyncGenerator[Any]:
        self.opened += 1
        self.open += 1
        try:
            async with aclosing(self._inner.stream(task)) as events:
                async for event in events:
                    yield event
        finally:
            self.open -= 1


@pytest.mark.parametrize(("kind", "path", "body"), STREAMS)
def test_nothing_is_left_of_a_stream_that_its_client_left(
    services: Services, server_loop: Loop, kind: str, path: str, body: dict[str, Any]
) -> None:
    counting = Counting(client_of(services, kind))
    own = with_client(services, kind, counting)
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b"", "scheme": "http"}
    asked = [{"type": "http.request", "body": orjson.dumps({**body, "stream": True})}]
    places: list[int] = []

    def under_way() -> int:
        return sum(len(model.load.under_way) for model in own.models.values())

    async def receive() -> Any:
        if not asked:
            await asyncio.Event().wait()
        return asked.pop()

    async def send(message: Any) -> None:
        """Is cancelled while it sends the first event, as Serve does where a client goes away."""
        if b"data: " in message.get("body", b""):
            places.append(under_way())
            raise asyncio.CancelledError

    async def leave() -> tuple[int, int]:
        with pytest.raises(asyncio.CancelledError):
            await create_http_app(own)(scope, receive, send)
        return counting.open, under_way()

    assert server_loop.run(leave()) == (0, 0)
    assert places == [counting.opened] == [body.get("n", 1)]
