"""GET /openapi.json, and /docs: a page of ours in `ingress/docs/` that shows it and sends requests.

Ours because the well-kept viewers are a hundred times as large and more: swagger-ui-dist 5.35.0 is 1.9 MB of script and
style, @scalar/api-reference 1.46.4 3.6 MB, this 12 KB; and it shows what an answer makes: pictures, films and events.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serve_app.ingress.endpoints import Endpoint
from serve_app.ingress.openapi import document
from serve_app.ingress.services import Services
from serve_app.ingress.static import page_routes


def routes(services: Services, endpoints: Sequence[Endpoint]) -> list[BaseRoute]:
    described = orjson.dumps(document(services.settings, endpoints))

    async def openapi(request: Request) -> Response:
        del request
        return Response(described, media_type="application/json")

    paths: list[BaseRoute] = [Route("/openapi.json", openapi, methods=["GET"])]
    return [*paths, *page_routes("/docs", "docs", services.store)] if services.settings.ingress.docs else paths
