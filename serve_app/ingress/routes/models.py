"""GET /v1/models and /v1/models/{id}."""

from functools import partial
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict  # pydantic wants it before Python 3.12

from serve_app.errors import ModelNotFound
from serve_app.ingress.answers import json_answer
from serve_app.ingress.endpoints import JSON, Endpoint
from serve_app.ingress.services import Services
from serve_app.tasks import Kind


class Model(TypedDict):
    """`parent` is the id of the model that an adapter belongs to."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    kind: Kind
    parent: str | None


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[Model]


def endpoints(services: Services) -> list[Endpoint]:
    """`created` of each model is when this server started; its adapters come after it."""
    models: dict[str, Model] = {
        id: {
            "id": id,
            "object": "model",
            "created": int(services.started_at),
            "owned_by": "diffusion-serve",
            "kind": model.kind,
            "parent": None if id == model.id else model.id,
        }
        for model in services.settings.served.values()
        for id in model.ids
    }

    async def every(request: Request) -> Response:
        del request
        return json_answer({"object": "list", "data": list(models.values())})

    async def one(request: Request) -> Response:
        id = request.path_params["model"]
        if id not in models:
            raise ModelNotFound.of(id[:256], models)
        return json_answer(models[id])

    model = partial(Endpoint, "GET", tag="Models")
    return [
        model("/v1/models", every, "The models served", {JSON: ModelList}),
        # ids are hub names, which hold slashes
        model("/v1/models/{model:path}", one, "One model", {JSON: Model}, errors=(404,)),
    ]
