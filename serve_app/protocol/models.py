"""The wire models of GET /v1/models and /v1/models/{id}."""

from typing import Literal

from typing_extensions import TypedDict  # pydantic wants it before Python 3.12

from serve_app.errors import ModelNotFound
from serve_app.settings import Settings
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


def list_models(settings: Settings, created: int) -> ModelList:
    """Every model that is served, and its adapters after it; `created` is when this server started."""
    data: list[Model] = [
        {
            "id": id,
            "object": "model",
            "created": created,
            "owned_by": "diffusion-serve",
            "kind": model.kind,
            "parent": None if id == model.id else model.id,
        }
        for model in settings.served.values()
        for id in model.ids
    ]
    return {"object": "list", "data": data}


def find_model(id: str, settings: Settings, created: int) -> Model:
    """The model of that id; raises ModelNotFound, listing those served."""
    models = {model["id"]: model for model in list_models(settings, created)["data"]}
    if id not in models:
        raise ModelNotFound.of(id[:256], models)
    return models[id]
