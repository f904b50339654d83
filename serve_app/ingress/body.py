"""Reads a request: its query, and its body within limits of size and time, parsed strictly into the endpoint's model.

`strict_json.py` reads JSON, `forms.py` forms, and the models say what the fields mean.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from serve_app.errors import InvalidRequest, RateLimited, ServeError, TooLarge, UnsupportedMediaType
from serve_app.ingress.forms import Files, parse_form, read_objects
from serve_app.ingress.strict_json import parse_json
from serve_app.protocol.common import Wire, parse
from serve_app.settings import RequestLimits
from serve_app.tasks import Origin

M = TypeVar("M", bound=Wire)
T = TypeVar("T")

MAX_TYPE_CHARS = 1024
MAX_QUERY_FIELDS = 64
OFF_LOOP_BYTES = 64 * 1024
"""Larger bodies are parsed in a thread, so that they do not block the event loop."""
PARSERS = ThreadPoolExecutor(2, thread_name_prefix="parse")
"""Few, because parsing holds a body several times; separate, so that parsing does not wait for file operations."""


@dataclass(slots=True)
class Budget:
    """The memory for request bodies: `held` bytes are in use now, of at most `most`."""

    most: int
    held: int = 0

    @contextmanager
    def share(self) -> Generator[Share]:
        """What one request holds. It counts until the answer has been sent, because files and texts live that long."""
        share = Share(self)
        try:
            yield share
        finally:
            share.give_back()


@dataclass(slots=True)
class Share:
    """What one request holds of the budget."""

    budget: Budget
    bytes: int = field(default=0, init=False)

    def take(self, size: int) -> bool:
        """Takes `size` more bytes. False if there is no room."""
        if self.budget.held + size > self.budget.most:
            return False
        self.budget.held += size
        self.bytes += size
        return True

    def give_back(self) -> None:
        self.budget.held -= self.bytes
        self.bytes = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """The raw fields of a request. In a form (`is_form`) all values are strings, and `files` holds its uploads."""

    data: dict[str, Any]
    files: Files = field(default_factory=dict[str, list[bytes]])
    is_form: bool = False


async def read_request(request: Request, model: type[M], limits: RequestLimits) -> tuple[M, Asked]:
    """The body as a `model`, and its raw fields. Forms are accepted only if the model has files.

    Raises UnsupportedMediaType, TooLarge, RateLimited while too many bodies are under way, and InvalidRequest that
    names the field.
    """
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        raise UnsupportedMediaType(f"The body must not be compressed: Content-Encoding is '{encoding[:64]}'.")
    content_type = request.headers.get("content-type", "")[:MAX_TYPE_CHARS]
    kind = content_type.split(";", 1)[0].strip().lower()
    is_form = kind == "multipart/form-data" and bool(model.FILES)
    if not is_form and kind != "application/json":
        allowed = "application/json or multipart/form-data" if model.FILES else "application/json"
        raise UnsupportedMediaType(f"The Content-Type must be {allowed}, not '{kind[:64]}'.")
    raw = await _read(request, limits)

    def make() -> tuple[M, Asked]:
        asked = Asked(parse_json(raw, limits))
        return parse(model, asked.data), asked

    def make_of_form() -> tuple[M, Asked]:
        data, files = parse_form(content_type, raw, limits)
        asked = Asked(read_objects(model, data, limits), files, is_form=True)
        return parse(model, asked.data, form=True, files=files), asked

    return await off_loop(make_of_form if is_form else make, len(raw))


def origin_of(request: Request, id: str) -> Origin:
    """Who asks for the task of this id, and when: now."""
    state = request.state
    return {"id": id, "caller": state.caller.owner, "submitted_at": time.time(), "traceparent": state.traceparent}


def read_query(request: Request) -> dict[str, str]:
    """The fields of the query; InvalidRequest for very many of them, and for a name that stands in it twice."""
    query: bytes = request.scope["query_string"]
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        raise InvalidRequest(f"The query has more than {MAX_QUERY_FIELDS} fields.") from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields:
            raise InvalidRequest(f"'{name[:64]}' stands twice in the query.", param=name[:64])
        fields[name] = value
    return fields


async def off_loop(work: Callable[[], T], size: int) -> T:
    """Runs `work` at once for little data, in a thread for much."""
    if size <= OFF_LOOP_BYTES:
        return work()
    return await asyncio.get_running_loop().run_in_executor(PARSERS, work)


async def _read(request: Request, limits: RequestLimits) -> bytes:
    """The whole body. If reading stops in the middle, the connection is marked to be closed."""
    share: Share = request.state.bodies
    chunks: list[bytes] = []
    size = 0
    refusal: ServeError | None = None
    request.state.close = True
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            more = True
            # a client does not read the answer while it is sending, so we read on, up to a limit
            while more and size <= 2 * limits.body_bytes:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk: bytes = message.get("body", b"")
                size += len(chunk)
                refusal = refusal or _refused(size, len(chunk), share, limits)
                if refusal is None:
                    chunks.append(chunk)
                else:
                    chunks.clear()
                    share.give_back()
                more = message.get("more_body", False)
    except TimeoutError:
        raise refusal or InvalidRequest(
            f"The body did not arrive within {limits.body_timeout_s:g} s (limits.body_timeout_s)."
        ) from None
    request.state.close = more
    if refusal is not None:
        raise refusal
    return b"".join(chunks)


def _refused(size: int, added: int, share: Share, limits: RequestLimits) -> ServeError | None:
    if size > limits.body_bytes:
        return TooLarge(f"The body is larger than {limits.body_bytes} bytes (limits.body_bytes).")
    if not share.take(added):
        return RateLimited(
            f"The requests under way hold {limits.bodies_bytes} bytes (limits.bodies_bytes), the limit.",
            retry_after_s=1.0,
        )
    return None
