"""JSON as RFC 8259 means it: UTF-8, one object, no name twice, no NaN, no lone surrogate, and not deep.

What a body may cost is counted in its raw bytes, before anything is parsed: values, and text that is no data URL. A
number too large for a float (1e400) is valid and becomes infinite; the models refuse it by the name of its field.
"""

from __future__ import annotations

import re
from typing import Any, cast

import jiter

from serve_app.errors import InvalidRequest, TooLarge
from serve_app.settings import RequestLimits

BOM = b"\xef\xbb\xbf"
"""The byte order mark, which Windows' tools write. RFC 8259, section 8.1, allows ignoring it."""
DATA_URL = b'"data:'
MAX_DATA_URLS = 64
"""No endpoint takes more data URLs. Further ones count as text."""
SHOWN_CHARS = 64
_STRUCTURE = re.compile(rb'[",\[{]')
_STRING = re.compile(rb'(?:[^"\\]|\\.){1,65536}', re.DOTALL)
"""A piece of a string's inside, small: a match holds Python's lock, and so the event loop, until it ends."""
_TWICE = re.compile(r'Detected duplicate key "(.*)" at line \d+ column \d+')


def parse_json(raw: bytes, limits: RequestLimits) -> dict[str, Any]:
    """One JSON object within the limits; raises InvalidRequest or TooLarge for anything else."""
    raw = raw.removeprefix(BOM)
    if not raw.strip():
        raise InvalidRequest("The body is empty; it must be a JSON object.")
    _check_values(raw, limits.json_values)
    _check_text(raw, limits.text_bytes)
    try:
        data: Any = jiter.from_json(raw, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True)
    except ValueError as error:
        raise _refusal(str(error), limits) from None
    if not isinstance(data, dict):
        raise InvalidRequest("The body must be a JSON object.")
    fields = cast("dict[str, Any]", data)
    # the number of brackets bounds the depth, so usual small bodies need no walk
    if raw.count(b"{") + raw.count(b"[") > limits.json_depth and _depth(fields, limits.json_depth) > limits.json_depth:
        raise _too_deep(limits)
    return fields


def is_data_url(text: bytes | bytearray | memoryview) -> bool:
    """Whether a text is a data URL as it has to be: ASCII, so that it takes no more memory than its bytes."""
    return bytes(text[:5]) == b"data:" and bytes(text).isascii()


def _check_values(raw: bytes, most: int) -> None:
    """Each value but the first of its container follows a comma. Strings are skipped only where it matters."""
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") < most:
        return
    count, at = 1, 0
    while (found := _STRUCTURE.search(raw, at)) is not None:
        at = found.end()
        if found[0] == b'"':
            while (piece := _STRING.match(raw, at)) is not None:
                at = piece.end()
            at += 1
            continue
        count += 1
        if count > most:
            raise InvalidRequest(f"The body holds more than {most} values (limits.json_values).")


def _check_text(raw: bytes, most: int) -> None:
    """A character beyond ASCII makes Python keep four bytes for each of its text, as does an escaped one."""
    text, at = len(raw), 0
    for _ in range(MAX_DATA_URLS if text > most else 0):
        at = raw.find(DATA_URL, at)
        if at < 0:
            break
        end = raw.find(b'"', at + 1)
        end = len(raw) if end < 0 else end
        url = raw[at + 1 : end]
        is_whole = raw[at - 1 : at] != b"\\" and not url.endswith(b"\\")  # neither quote is one inside a text
        if is_whole and is_data_url(url) and b"\\u" not in url:
            text -= len(url)
        at = end
    if text > most:
        raise TooLarge(
            f"The body holds more than {most} bytes beside its data URLs (limits.text_bytes). An image is given as "
            "data:image/png;base64,..."
        )


def _refusal(said: str, limits: RequestLimits) -> InvalidRequest:
    if twice := _TWICE.fullmatch(said):
        name = twice[1].replace('\\"', '"').replace("\\\\", "\\")[:SHOWN_CHARS]
        return InvalidRequest(f"The name '{name}' stands twice in one object.", param=name)
    if said.startswith("recursion limit"):
        return _too_deep(limits)
    return InvalidRequest(f"The body is not valid JSON: {said}.")


def _depth(fields: dict[str, Any], most: int) -> int:
    """Levels of nesting, counted no further than one past `most`."""
    level = 0
    containers: list[Any] = [fields]
    while containers and level <= most:
        level += 1
        containers = [
            inner
            for container in containers
            for inner in (cast("dict[str, Any]", container).values() if isinstance(container, dict) else container)
            if isinstance(inner, dict | list)
        ]
    return level


def _too_deep(limits: RequestLimits) -> InvalidRequest:
    return InvalidRequest(f"The body is nested deeper than {limits.json_depth} levels (limits.json_depth).")
