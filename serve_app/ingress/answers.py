"""JSON answers, written by orjson, with a Server-Timing header that says where the seconds went."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

from serve_app.tasks import Timing


def json_answer(data: Any, *, status: int = 200, timing: Timing | None = None) -> Response:
    """A response with `data`; `timing` becomes https://www.w3.org/TR/server-timing/ in milliseconds."""
    headers = {"server-timing": server_timing(timing)} if timing is not None else None
    return Response(orjson.dumps(data), status, headers, "application/json")


def server_timing(timing: Timing) -> str:
    """The value of a Server-Timing header."""
    return (
        f"queue;dur={timing.queue_s * 1000:.3f}, engine;dur={timing.engine_s * 1000:.3f}, "
        f"encode;dur={timing.encode_s * 1000:.3f}, storage;dur={timing.storage_s * 1000:.3f}"
    )
