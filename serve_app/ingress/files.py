"""Answers with a stored object: ranges, validators, and headers that stop browsers from running it."""

import hashlib
import re
from email.utils import formatdate
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from serve_app.errors import InvalidRequest
from serve_app.ingress.errors import error_body
from serve_app.storage.base import ObjectInfo, ObjectStore

CACHE = "private, max-age=3600, immutable"
"""The object of a key never changes, but may be deleted."""
RANGE = re.compile(r"bytes=([0-9]{0,99})-([0-9]{0,99})", re.IGNORECASE)


async def file_answer(request: Request, store: ObjectStore, info: ObjectInfo) -> Response:
    """The object, or the part of it that the request asks for; a HEAD has the same headers and no body."""
    etag = f'"{hashlib.sha256(f"{info.key} {info.size} {info.modified}".encode()).hexdigest()[:32]}"'
    modified = formatdate(info.modified, usegmt=True)
    name = PurePosixPath(info.key).name
    headers = {
        "accept-ranges": "bytes",
        "etag": etag,
        "last-modified": modified,
        "cache-control": CACHE,
        "content-disposition": f'inline; filename="{name}"',
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
    }
    if not_modified(request.headers.get("if-none-match"), request.headers.get("if-modified-since"), etag, modified):
        return Response(status_code=304, headers=headers)
    status, start, end = 200, 0, info.size
    try:
        asked = parse_range(request.headers.get("range"), info.size)
    except Unsatisfiable:
        beyond = error_body(InvalidRequest(f"The range lies outside of the {info.size} bytes.", param="Range"))
        return Response(beyond, 416, {"content-range": f"bytes */{info.size}"}, "application/json")
    # a part is sent only of this very representation: If-Range names it by its strong tag or its date
    if asked is not None and request.headers.get("if-range", etag).strip() in (etag, modified):
        status, (start, end) = 206, asked
        headers["content-range"] = f"bytes {start}-{end - 1}/{info.size}"
    headers["content-length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=info.content_type)
    return StreamingResponse(store.open(info.key, start, end), status, headers, info.content_type)


# --- byte ranges of RFC 9110, section 14 -----------------------------------------------------------------------------


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


def not_modified(if_none_match: str | None, if_modified_since: str | None, etag: str, modified: str) -> bool:
    """Whether the caller has it already: by If-None-Match, else by an If-Modified-Since with its very date."""
    if if_none_match is None:
        return if_modified_since is not None and if_modified_since.strip() == modified
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags
