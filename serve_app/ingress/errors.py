"""Turns errors into HTTP responses: OpenAI's JSON shape, the true status, and no internals.

{"error": {"message", "type", "param", "code"}}
"""

from __future__ import annotations

import logging
import math

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serve_app.errors import (
    Forbidden,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    RateLimited,
    ServeError,
    TooLarge,
    Unauthorized,
    UnsupportedMediaType,
)

logger = logging.getLogger("serve_app.ingress")

HTTP_ERRORS: dict[int, type[ServeError]] = {
    error.status: error
    for error in (
        *(InvalidRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed),
        *(TooLarge, UnsupportedMediaType, RateLimited),
    )
}
"""Our errors for the statuses that Starlette raises."""
DEFAULT_RETRY_S = 1.0
SHOWN_CHARS = 256


def as_serve_error(error: Exception, *, method: str, path: str, request_id: str) -> ServeError:
    """Keeps our errors and translates Starlette's. Anything else is logged and becomes a 500 without details."""
    if isinstance(error, ServeError):
        return error
    if isinstance(error, HTTPException) and error.status_code in HTTP_ERRORS:
        return HTTP_ERRORS[error.status_code](_http_message(error, method, path))
    logger.error("request %s (%s %r) failed", request_id, method, path, exc_info=error)
    return ServeError(f"The server had an error on this request. Its id is {request_id}.")


def error_body(error: ServeError) -> bytes:
    """The JSON of an error, for a response's body or an event in a stream."""
    return orjson.dumps(
        {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    )


def error_response(error: ServeError, *, allow: str | None = None) -> Response:
    """The response for an error; `allow` lists the methods of a 405."""
    response = Response(error_body(error), error.status, media_type="application/json")
    if allow is not None:
        response.headers["Allow"] = allow
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if error.status == 429 or error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s or DEFAULT_RETRY_S)))
    return response


def _http_message(error: HTTPException, method: str, path: str) -> str:
    path = path[:SHOWN_CHARS]
    if error.status_code == 404:
        return f"There is nothing at {method} {path}."
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        return f"{method} is not allowed at {path}. Allowed: {allow}."
    return error.detail
