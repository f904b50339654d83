"""Turns errors into HTTP responses: OpenAI's JSON shape, the true status, and no internals.

{"error": {"message", "type", "param", "code"}}
"""

import logging
import math
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from serve_app.errors import MethodNotAllowed, NotFound, ServeError

logger = logging.getLogger("serve_app.ingress")

DEFAULT_RETRY_S = 1.0
SHOWN_CHARS = 256


def as_serve_error(error: Exception, scope: Scope) -> ServeError:
    """Keeps our errors and translates Starlette's. Anything else is logged and becomes a 500 without details.

    The request's state learns the error's code.
    """
    method, path, request_id = scope["method"], scope["path"], scope["state"]["request_id"]
    if isinstance(error, ServeError):
        ours = error
    elif isinstance(error, HTTPException) and error.status_code == 404:
        ours = NotFound(f"There is nothing at {method} {path[:SHOWN_CHARS]}.")
    elif isinstance(error, HTTPException) and error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        ours = MethodNotAllowed(f"{method} is not allowed at {path[:SHOWN_CHARS]}. Allowed: {allowed}.")
    else:
        logger.error("request %s (%s %r) failed", request_id, method, path, exc_info=error)
        ours = ServeError(f"The server had an error on this request. Its id is {request_id}.")
    scope["state"]["error_code"] = ours.code
    return ours


def error_body(error: ServeError, **beside: Any) -> bytes:
    """The JSON of an error, for a response's body or an event in a stream; `beside` is what else it says."""
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return orjson.dumps({"error": told, **beside})


def error_response(error: ServeError, headers: Mapping[str, str] | None = None, **beside: Any) -> Response:
    """The response for an error."""
    response = Response(error_body(error, **beside), error.status, headers, "application/json")
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.status == 429 or error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s or DEFAULT_RETRY_S)))
    return response
