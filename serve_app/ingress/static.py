"""The files of our own pages: read once, and sent with headers under which a browser runs nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serve_app.errors import ServeError
from serve_app.storage import ObjectStore

CONTENT_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
EXAMPLE_KEY = "media/page"
"""A key used only to learn the origin of the store's URLs. No object has it."""


@dataclass(frozen=True, slots=True)
class PageFile:
    content: bytes
    content_type: str
    etag: str


def page_routes(path: str, folder: str, store: ObjectStore) -> list[BaseRoute]:
    """Routes that answer `path` with the index.html of `ingress/<folder>/`, and /<folder>/... with its other files."""
    found = read_files(folder)

    async def page(request: Request) -> Response:
        return _answer(request, found["index.html"], store)

    async def file(request: Request) -> Response:
        known = found.get(request.path_params["name"])
        if known is None:
            raise HTTPException(404)
        return _answer(request, known, store)

    return [Route(path, page, methods=["GET"]), Route(f"/{folder}/{{name:path}}", file, methods=["GET"])]


def read_files(folder: str) -> Mapping[str, PageFile]:
    """Every file of a page by its path below `ingress/<folder>/`; licences and the like are no part of it."""
    return dict(_walk(files("serve_app.ingress") / folder, ""))


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, PageFile]]:
    found: list[tuple[str, PageFile]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
            continue
        content_type = CONTENT_TYPES.get(entry.name[entry.name.rfind(".") :])
        if content_type is not None:
            content = entry.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found.append((prefix + entry.name, PageFile(content, content_type, etag)))
    return found


def _answer(request: Request, file: PageFile, store: ObjectStore) -> Response:
    # no-cache: browsers keep files but revalidate them, so that no page runs old modules
    headers = {**_security_headers(_origin(store)), "etag": file.etag, "cache-control": "no-cache"}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.content_type)


def _security_headers(media_origin: str) -> dict[str, str]:
    media = f"'self' blob: data: {media_origin}".rstrip()
    return {
        "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        f"img-src {media}; media-src {media}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }


def _origin(store: ObjectStore) -> str:
    """Scheme and host of the store's URLs. Empty if we serve the files, or if the store fails."""
    try:
        url = urlsplit(store.url(EXAMPLE_KEY, expires_s=60))
    except ServeError:
        return ""
    return f"{url.scheme}://{url.netloc}" if url.netloc else ""
