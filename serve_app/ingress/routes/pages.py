"""The pages for people, and GET /openapi.json.

GET / is `ingress/page/`, which uses the same API as everybody. /docs is `ingress/docs/`, which shows /openapi.json and
sends requests. Their files are sent with headers under which a browser runs nothing else.

/docs is ours because the well-kept viewers are a hundred times as large and more: swagger-ui-dist 5.35.0 is 1.9 MB of
script and style, @scalar/api-reference 1.46.4 3.6 MB, this 12 KB; and it shows what an answer makes: pictures, films
and events.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from serve_app.errors import ServeError
from serve_app.ingress.endpoints import Endpoint
from serve_app.ingress.openapi import document
from serve_app.ingress.services import Services
from serve_app.storage.base import ObjectStore

EXAMPLE_KEY = "media/page"
"""A key used only to learn the origin of the store's URLs. No object has it."""


def routes(services: Services, endpoints: Sequence[Endpoint]) -> list[Route]:
    described = Response(orjson.dumps(document(services.settings, endpoints)), media_type="application/json")
    shown = services.settings.ingress
    docs = _page_routes("/docs", "docs", services.store) if shown.docs else []
    page = _page_routes("/", "page", services.store) if shown.page else []
    return [Route("/openapi.json", described, methods=["GET"]), *docs, *page]


def _page_routes(path: str, folder: str, store: ObjectStore) -> list[Route]:
    """Routes that answer `path` with the index.html of `ingress/<folder>/`, and /<folder>/... with its other files."""
    files = PageFiles(folder, store)

    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    async def file(request: Request) -> Response:
        return await files.get_response(request.path_params["name"], request.scope)

    return [Route(path, page, methods=["GET"]), Route(f"/{folder}/{{name:path}}", file, methods=["GET"])]


class PageFiles(StaticFiles):
    """The files of `ingress/<folder>/`, which may show pictures from where `store` keeps them."""

    def __init__(self, folder: str, store: ObjectStore) -> None:
        super().__init__(packages=[("serve_app.ingress", folder)])
        self._store = store

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        media = f"'self' blob: data: {self._media_origin()}".rstrip()
        response.headers.update(
            {
                "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
                f"connect-src 'self'; img-src {media}; media-src {media}; base-uri 'none'; form-action 'none'; "
                "frame-ancestors 'none'",
                "x-content-type-options": "nosniff",
                "referrer-policy": "no-referrer",
                # browsers keep files but revalidate them, so that no page runs old modules
                "cache-control": "no-cache",
            }
        )
        return response

    def _media_origin(self) -> str:
        """Scheme and host of the store's URLs. Empty if we serve the files, or if the store fails."""
        try:
            url = urlsplit(self._store.url(EXAMPLE_KEY, expires_s=60))
        except ServeError:
            return ""
        return f"{url.scheme}://{url.netloc}" if url.netloc else ""
