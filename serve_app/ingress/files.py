"""Answers with a stored object: ranges, validators, and headers that stop browsers from running it."""

from __future__ import annotations

import hashlib
from email.utils import formatdate
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from serve_app.errors import InvalidRequest
from serve_app.ingress.errors import error_body
from serve_app.ingress.ranges import Unsatisfiable, not_modified, parse_range, still_same
from serve_app.storage import ObjectInfo, ObjectStore

CACHE = "private, max-age=3600, immutable"
"""The object of a key never changes, but may be deleted."""


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
    if asked is not None and still_same(request.headers.get("if-range"), etag, modified):
        status, (start, end) = 206, asked
        headers["content-range"] = f"bytes {start}-{end - 1}/{info.size}"
    headers["content-length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=info.content_type)
    return StreamingResponse(store.open(info.key, start, end), status, headers, info.content_type)
