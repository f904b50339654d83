"""The body of a request: read within its bounds of size and time, then parsed strictly.

JSON is read as RFC 8259 means it: UTF-8, one object, no name twice, no NaN, no lone surrogate, and not deep. A number
too large for a float (1e400) is valid and becomes infinite; the models refuse it by the name of its field. Forms are
left to `forms.py`. What the fields mean is not known here.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import orjson
from starlette.requests import ClientDisconnect, Request

from serve_app.errors import InvalidRequest, TooLarge, UnsupportedMediaType
from serve_app.ingress.forms import Form, Upload, parse_form
from serve_app.settings import RequestLimits

__all__ = ["Body", "Upload", "parse_json", "read_body"]

OFF_LOOP_BYTES = 256 * 1024
"""Bodies larger than this are parsed in a thread, so that the others on the event loop need not wait."""
MAX_DIGITS = 400
"""A JSON number of more characters than this is an attack on int(), whose time grows with the square."""


@dataclass(frozen=True, slots=True)
class Body:
    """The fields of a request. In a form all values are strings (`is_form`), and `files` holds its uploads."""

    data: dict[str, Any]
    files: dict[str, list[Upload]] = field(default_factory=dict[str, list[Upload]])
    is_form: bool = False


async def read_body(request: Request, limits: RequestLimits, *, files: bool = False) -> Body:
    """The parsed body; a form is taken only where `files` may come.

    Raises UnsupportedMediaType, TooLarge, and InvalidRequest for a body that is slow, empty or broken.
    """
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        raise UnsupportedMediaType(f"The body must not be compressed: Content-Encoding is '{encoding[:64]}'.")
    content_type = request.headers.get("content-type", "")
    kind = content_type.split(";", 1)[0].strip().lower()
    if kind == "multipart/form-data" and files:
        raw = await _read(request, limits)
        form: Form = await _parse(parse_form, raw, content_type, raw, limits)
        return Body(form.data, form.files, is_form=True)
    if kind == "application/json":
        raw = await _read(request, limits)
        data: dict[str, Any] = await _parse(parse_json, raw, raw, limits.json_depth)
        return Body(data)
    allowed = "application/json or multipart/form-data" if files else "application/json"
    raise UnsupportedMediaType(f"The Content-Type must be {allowed}, not '{kind[:64]}'.")


def parse_json(raw: bytes, depth: int) -> dict[str, Any]:
    """One JSON object, nested no deeper than `depth`; raises InvalidRequest for anything else."""
    if not raw.strip():
        raise InvalidRequest("The body is empty; it must be a JSON object.")
    try:
        text = raw.decode()
        # a lone surrogate can only come as an escape; orjson refuses it, Python's own parser does not
        if "\\u" in text:
            orjson.loads(text)
        data: Any = DECODER.decode(text)
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error.msg} at position {error.pos}.") from None
    except RecursionError:
        raise _too_deep(depth) from None
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.")
    fields = cast("dict[str, Any]", data)
    # the text's brackets bound the depth, so that the usual small body is not walked
    if text.count("{") + text.count("[") > depth and _depth(fields, depth) > depth:
        raise _too_deep(depth)
    return fields


async def _read(request: Request, limits: RequestLimits) -> bytes:
    """Every byte of the body. A body given up on in the middle marks the connection, which is then closed."""
    too_large = TooLarge(f"The body is larger than {limits.body_bytes} bytes (limits.body_bytes).")
    chunks: list[bytes] = []
    size = 0
    request.state.close = True
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            more = True
            # a client that is still sending does not see the answer, so it is heard out, but not for ever
            while more and size <= 2 * limits.body_bytes:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > limits.body_bytes:
                    chunks.clear()
                more = message.get("more_body", False)
    except TimeoutError:
        if size <= limits.body_bytes:
            raise InvalidRequest(
                f"The body did not arrive within {limits.body_timeout_s:g} s (limits.body_timeout_s)."
            ) from None
        raise too_large from None
    request.state.close = more
    if size > limits.body_bytes:
        raise too_large
    return b"".join(chunks)


async def _parse(parser: Any, raw: bytes, *args: Any) -> Any:
    if len(raw) <= OFF_LOOP_BYTES:
        return parser(*args)
    return await asyncio.to_thread(parser, *args)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidRequest(f"The name '{name[:64]}' stands twice in one object.", param=name[:64])
            seen.add(name)
    return made


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise InvalidRequest(f"A number has more than {MAX_DIGITS} digits.")
    return int(digits)


def _constant(name: str) -> NoReturn:
    raise InvalidRequest(f"{name} is not a JSON value.")


def _depth(fields: dict[str, Any], most: int) -> int:
    """Levels of nesting, counted no further than one past `most`."""
    level = 0
    containers: list[Any] = [fields]
    while containers and level <= most:
        level += 1
        containers = [
            inner
            for one in containers
            for inner in (cast("dict[str, Any]", one).values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
    return level


def _too_deep(depth: int) -> InvalidRequest:
    return InvalidRequest(f"The body is nested deeper than {depth} levels (limits.json_depth).")


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_int, parse_constant=_constant)
