"""The envelope around every request: its id, its time, its trace, its line in the access log, and its errors.

One pure ASGI layer: Starlette's BaseHTTPMiddleware would cost a task and two queues for each request.
"""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.ingress.errors import as_serve_error, error_response
from serve_app.ingress.services import PUBLIC

access_log = logging.getLogger("serve_app.access")

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
TRACEPARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""https://www.w3.org/TR/trace-context/#traceparent-header, version 00."""
CLIENT_CLOSED = 499
"""What the access log says of a client that went away before its answer; no such status goes over the wire."""


class Envelope:
    """Sets `request_id`, `traceparent` and a default `caller` in the request's state; turns errors into responses.

    `adds_request_id` is False behind Ray Serve, whose proxy adds the request's own x-request-id to the answer.
    """

    def __init__(self, app: ASGIApp, *, adds_request_id: bool = True) -> None:
        self._app = app
        self._adds_request_id = adds_request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        given, traceparent = _ids(scope)
        request_id = given or f"req_{uuid.uuid4().hex}"
        state = scope.setdefault("state", {})
        state.update(request_id=request_id, traceparent=traceparent, caller=PUBLIC)
        # Starlette's router raises its 404 and 405 where it finds an app in the scope, else it answers in plain text
        scope["app"] = self
        status = 0
        id_header = [(b"x-request-id", request_id.encode())] if self._adds_request_id or not given else []

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                spent_ms = b"%d" % ((time.perf_counter() - began) * 1000)
                message["headers"] = [*message["headers"], *id_header, (b"openai-processing-ms", spent_ms)]
            await send(message)

        try:
            await self._app(scope, receive, send_marked)
        except ClientDisconnect:
            status = status or CLIENT_CLOSED
        except Exception as raised:
            error = as_serve_error(raised, method=scope["method"], path=scope["path"], request_id=request_id)
            # too late for an answer: the connection has to break, or the client takes the half for the whole
            if status:
                raise
            await error_response(error, allow=_allow(raised))(scope, receive, send_marked)
        finally:
            if access_log.isEnabledFor(logging.INFO):
                _log(scope, request_id, status or CLIENT_CLOSED, time.perf_counter() - began)


def _ids(scope: Scope) -> tuple[str, str]:
    """The caller's request id and W3C traceparent; empty where there is none that is valid."""
    request_id = traceparent = ""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            request_id = value.decode()
        elif name == b"traceparent" and TRACEPARENT.fullmatch(value):
            traceparent = value.decode()
    return request_id, traceparent


def _allow(error: Exception) -> str | None:
    if isinstance(error, HTTPException) and error.status_code == 405:
        return (error.headers or {}).get("Allow")
    return None


def _log(scope: Scope, request_id: str, status: int, seconds: float) -> None:
    access_log.info(
        "%s %s %d",
        scope["method"],
        scope["path"],
        status,
        extra={
            "request_id": request_id,
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "seconds": round(seconds, 6),
            "caller": scope["state"]["caller"].name,
        },
    )
