"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serve_app.ingress.answers import json_answer
from serve_app.ingress.services import Services
from serve_app.protocol.models import find_model, list_models


def routes(services: Services) -> list[BaseRoute]:
    created = int(services.started_at)

    async def every(request: Request) -> Response:
        del request
        return json_answer(list_models(services.settings, created))

    async def one(request: Request) -> Response:
        return json_answer(find_model(request.path_params["id"], services.settings, created))

    return [
        Route("/v1/models", every, methods=["GET"]),
        # ids are hub names, which hold slashes
        Route("/v1/models/{id:path}", one, methods=["GET"]),
    ]
