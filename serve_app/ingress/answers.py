"""JSON answers, written by orjson, with a Server-Timing header that says where the seconds went, and URLs in them with
this server's address as the caller sees it.
"""

import re
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from serve_app.ingress.services import Services
from serve_app.tasks import StoredObject, Timing

HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


def json_answer(data: Any, *, timing: Timing | None = None) -> Response:
    """A response with `data`; `timing` becomes https://www.w3.org/TR/server-timing/ in milliseconds."""
    headers = {"server-timing": server_timing(timing)} if timing is not None else None
    return Response(orjson.dumps(data), 200, headers, "application/json")


def server_timing(timing: Timing) -> str:
    """The value of a Server-Timing header."""
    return (
        f"queue;dur={timing.queue_s * 1000:.3f}, engine;dur={timing.engine_s * 1000:.3f}, "
        f"encode;dur={timing.encode_s * 1000:.3f}, storage;dur={timing.storage_s * 1000:.3f}"
    )


def url_of(services: Services, request: Request, stored: StoredObject) -> str:
    """The URL of `stored`: the store's own, or ours with the address that the caller used."""
    url = services.store.url(stored.key, expires_s=services.settings.media.url_ttl_s)
    return base_url(request) + url if url.startswith("/") else url


def base_url(request: Request) -> str:
    """Scheme, host and mount path of this request, without a slash at its end."""
    scheme = request.headers.get("x-forwarded-proto", request.scope["scheme"])
    host = request.headers.get("host", "")
    if scheme not in ("http", "https"):
        scheme = "http"
    if not HOST.fullmatch(host):
        name, port = request.scope.get("server") or ("localhost", None)
        host = f"{name}:{port}" if port else name
    return f"{scheme}://{host}{request.scope.get('root_path', '').rstrip('/')}"
