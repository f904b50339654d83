"""The outermost layer of every request: id, duration, trace, access log, errors and CORS.

One pure ASGI layer: Starlette's BaseHTTPMiddleware would cost a task and two queues for each request.
"""

import logging
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.ingress.errors import as_serve_error, error_response
from serve_app.ingress.origins import PROBES, Origins
from serve_app.ingress.services import PUBLIC
from serve_app.telemetry import logs, metrics, tracing

logger = logging.getLogger("serve_app.ingress")
access_log = logging.getLogger("serve_app.access")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""No path of ours holds one; Starlette's routes end in $, which also matches before a line break."""
PATH_CHARS = "/:@!$&'()*+,;="
PAGE = "/page/"
"""The page's own files: a score for each visit."""
CLIENT_CLOSED = 499
"""Logged if the client left before its answer. It is never sent."""


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """Sets `request_id`, `traceparent` and a default `caller` in the request's state; turns errors into responses.

    `templates` names each endpoint's route for the metrics, where a path would be a label without end.
    `adds_request_id` is False behind Ray Serve, whose proxy adds the request's own x-request-id to the answer.
    """

    app: ASGIApp
    origins: Origins
    templates: Mapping[Any, str]
    adds_request_id: bool = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        send = self.origins.marked(send, headers)
        given, traceparent = headers.get("x-request-id", ""), tracing.make_traceparent(headers.get("traceparent", ""))
        keeps_id = REQUEST_ID.fullmatch(given) is not None
        request_id = given if keeps_id else f"req_{uuid.uuid4().hex}"
        state = scope.setdefault("state", {})
        state.update(request_id=request_id, caller=PUBLIC, error_code=None)
        # Starlette's router raises its 404 and 405 where it finds an app in the scope, else it answers in plain text
        scope["app"] = self
        status = 0
        id_header = [(b"x-request-id", request_id.encode())] if self.adds_request_id or not keeps_id else []

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                spent_ms = b"%d" % ((time.perf_counter() - began) * 1000)
                close = [(b"connection", b"close")] if state.get("close") else []
                message["headers"] = [*message["headers"], *id_header, (b"openai-processing-ms", spent_ms), *close]
            await send(message)

        async def receive_or_gone() -> Message:
            try:
                return await receive()
            except Exception as error:  # noqa: BLE001
                # Serve's proxy forgets a request whose client goes away; asked for more of it, it raises whatever its
                # queue, Ray's call or the actor raise. Nothing but this connection can be the cause.
                logger.debug("request %s: its client is gone: %r", request_id, error)
                return {"type": "http.disconnect"}

        tokens = logs.request_id.set(request_id), logs.current_traceparent.set(traceparent)
        try:
            with tracing.span("http", traceparent, method=scope["method"]) as below:
                state["traceparent"] = below
                if CONTROL.search(scope["path"]):
                    raise HTTPException(404)
                await self.app(scope, receive_or_gone, send_marked)
        except ClientDisconnect:
            pass
        except Exception as raised:
            error = as_serve_error(raised, scope)
            # too late for an error response: the connection must break, or the client takes a part for the whole
            if status:
                raise
            allow = raised.headers if isinstance(raised, HTTPException) else None
            await error_response(error, allow)(scope, receive, send_marked)
        finally:
            self._note(scope, status or CLIENT_CLOSED, time.perf_counter() - began)
            logs.request_id.reset(tokens[0])
            logs.current_traceparent.reset(tokens[1])

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = self.templates.get(scope.get("endpoint"), "other")
        state = scope["state"]
        metrics.count_request(route, scope["method"], status, seconds, state["error_code"])
        level = logging.DEBUG if _is_routine(scope["path"], status) else logging.INFO
        if access_log.isEnabledFor(level):
            # quoted, because a line break in a path could forge a log line
            facts = {"method": scope["method"], "path": quote(scope["path"], safe=PATH_CHARS), "status": status}
            facts |= {"seconds": round(seconds, 6), "caller": state["caller"].name}
            access_log.log(level, "%(method)s %(path)s %(status)d %(seconds).3f s", facts, extra=facts)


def _is_routine(path: str, status: int) -> bool:
    """Whether a request is logged at DEBUG only: polled, and no error but "not ready yet", or a file of the page."""
    return (path in PROBES and (status < 400 or status == 503)) or (path.startswith(PAGE) and status < 400)
