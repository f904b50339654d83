"""GET /openapi.json, and /docs: one page of ours that shows it and sends requests, with nothing from elsewhere."""

from __future__ import annotations

from importlib.resources import files

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serve_app.ingress.openapi import document
from serve_app.ingress.services import Services

PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data: blob:; media-src data: blob:; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def routes(services: Services) -> list[BaseRoute]:
    described = orjson.dumps(document(services.settings))
    page = files("serve_app.ingress").joinpath("docs.html").read_bytes()

    async def openapi(request: Request) -> Response:
        del request
        return Response(described, media_type="application/json")

    async def docs(request: Request) -> Response:
        del request
        return Response(page, headers=PAGE_HEADERS, media_type="text/html")

    paths: list[BaseRoute] = [Route("/openapi.json", openapi, methods=["GET"])]
    return [*paths, Route("/docs", docs, methods=["GET"])] if services.settings.ingress.docs else paths
