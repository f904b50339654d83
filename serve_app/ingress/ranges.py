"""Byte ranges of RFC 9110, section 14. Pure: headers in, what to send out."""

from __future__ import annotations

import re

RANGE = re.compile(r"bytes=([0-9]{0,99})-([0-9]{0,99})", re.IGNORECASE)


class Unsatisfiable(Exception):
    """The range begins behind the end: 416 with `Content-Range: bytes */size`."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of the single range asked for; None where the whole is to be sent.

    A header that is malformed, or asks for several ranges, is ignored, as the RFC allows. Raises Unsatisfiable.
    """
    match = RANGE.fullmatch((header or "").strip().replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        if int(last) == 0 or size == 0:
            raise Unsatisfiable
        return max(0, size - int(last)), size
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return start, min(int(last) + 1, size) if last else size


def still_same(if_range: str | None, etag: str, modified: str) -> bool:
    """Whether If-Range lets a range be sent: it is absent, or names exactly this representation, by a strong tag."""
    return if_range is None or if_range.strip() in (etag, modified)


def not_modified(if_none_match: str | None, if_modified_since: str | None, etag: str, modified: str) -> bool:
    """Whether the caller has it already: by If-None-Match, else by an If-Modified-Since with its very date."""
    if if_none_match is None:
        return if_modified_since is not None and if_modified_since.strip() == modified
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags
