"""Server-sent events; knows nothing of what they say.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from serve_app.ingress.errors import as_serve_error, error_body

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
KEEP_ALIVE_S = 15.0
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx buffers a response unless told not to
    (b"x-accel-buffering", b"no"),
]


def event(data: Any, name: str | None = None) -> bytes:
    """One event; orjson escapes line breaks in strings, so that its JSON is always a single data line."""
    head = b"event: %b\n" % name.encode() if name else b""
    return b"%bdata: %b\n\n" % (head, orjson.dumps(data))


class EventStream:
    """A response of events as they come.

    The status waits for the first event (for at most KEEP_ALIVE_S), so that a request that fails before it has a true
    error status. Comments keep the connection alive in silence. Closes `events` when the client goes away.
    """

    def __init__(self, events: AsyncGenerator[bytes, None], *, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self._events = events
        self._keep_alive_s = keep_alive_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_disconnected(receive))
        started = False
        following: asyncio.Future[bytes] | None = None
        try:
            while True:
                following = following or asyncio.ensure_future(anext(self._events, b""))
                await asyncio.wait({following, gone}, timeout=self._keep_alive_s, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    return
                chunk, ended = KEEP_ALIVE, False
                if following.done():
                    chunk, ended = _outcome(following, scope, started)
                    following = None
                if not started:
                    started = True
                    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
                await send({"type": "http.response.body", "body": chunk, "more_body": not ended})
                if ended:
                    return
        finally:
            gone.cancel()
            if following is not None:
                following.cancel()
                with contextlib.suppress(BaseException):
                    await following
            await self._events.aclose()


def _outcome(finished: asyncio.Future[bytes], scope: Scope, started: bool) -> tuple[bytes, bool]:
    """The next bytes to send and whether they are the last. An error before the first byte is raised."""
    error = finished.exception()
    if error is None:
        chunk = finished.result()
        return chunk, not chunk
    if not started or not isinstance(error, Exception):
        raise error
    # the status has gone out; OpenAI's clients raise what an event named `error` holds
    return b"event: error\ndata: %b\n\n" % error_body(as_serve_error(error, scope)), True


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
