"""GET /v1/models and /v1/models/{id}."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from serve_app.ingress.answers import json_answer
from serve_app.ingress.endpoints import JSON, Endpoint
from serve_app.ingress.services import Services
from serve_app.protocol.models import Model, ModelList, find_model, list_models


def endpoints(services: Services) -> list[Endpoint]:
    created = int(services.started_at)

    async def every(request: Request) -> Response:
        del request
        return json_answer(list_models(services.settings, created))

    async def one(request: Request) -> Response:
        return json_answer(find_model(request.path_params["model"], services.settings, created))

    model = partial(Endpoint, "GET", tag="Models")
    return [
        model("/v1/models", every, "The models served", {JSON: ModelList}),
        # ids are hub names, which hold slashes
        model("/v1/models/{model:path}", one, "One model", {JSON: Model}, errors=(404,)),
    ]
