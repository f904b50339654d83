"""The OpenAPI 3.1 document, made from the models that parse the requests and from the running settings.

Limits become bounds, served models become enums, and kinds without a model have no paths. Pure: settings in, a
dict out. What the running code does beyond the models (an even width) stands in descriptions.
"""

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from serve_app.ingress.endpoints import JSON, Endpoint, Json, Tag
from serve_app.model_settings import AnyModel, TextSettings
from serve_app.protocol.common import Bound, Wire, extension_of
from serve_app.protocol.errors import ErrorResponse
from serve_app.settings import Settings
from serve_app.tasks import Kind

BOOLEAN: Json = {
    "type": "string",
    "pattern": "^([01tTfFyYnN]|[oO][nN]|[nN][oO]|[oO][fF][fF]|[yY][eE][sS]|[tT][rR][uU][eE]|[fF][aA][lL][sS][eE])$",
    "description": "true or false",
}
"""A boolean in a form, as pydantic reads it."""
BINARY: Json = {"type": "string", "format": "binary"}
KIND_OF: dict[Tag, Kind] = {"Text": "text", "Images": "image", "Videos": "video"}
MAKES = (400, 404, 413, 415, 429, 500, 503, 504)
"""What every endpoint that has a body may answer."""
ERRORS = {
    400: "A bad value; `param` names the field",
    401: "No valid API key",
    403: "Not yours, or a signature that does not match",
    404: "There is no such thing",
    413: "The body is too large",
    415: "The content type is not one that is read here",
    416: "The range lies outside of the file",
    429: "Too many requests; Retry-After says when to come back",
    500: "The server failed",
    503: "Starting, draining, or storage is away",
    504: "It took too long",
}
ERROR_HEADERS: dict[int, Json] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: {"Retry-After": {"schema": {"type": "integer"}}},
}
HEADERS: dict[str, Json] = {
    "Idempotency-Key": {
        "description": "The same key with the same body gives the same result or job; with another body it is a 400. "
        "A stream with a key sends keep-alives until its result is whole: then a text as one block, an image without "
        "previews.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    },
    "Prefer": {
        "description": "`respond-async` answers at once with the job, `wait` waits for the video, `wait=N` at most N "
        "seconds (https://www.rfc-editor.org/rfc/rfc7240).",
        "schema": {"type": "string"},
    },
    "Range": {"description": "Bytes to send.", "schema": {"type": "string"}},
}
PATH_PARAMETERS: dict[str, Json] = {
    "id": {"description": "The id of a video.", "schema": {"type": "string", "pattern": "^video_[0-9a-f]{32}$"}},
    "model": {"description": "A model's id; it may hold slashes.", "schema": {"$ref": "#/components/schemas/ModelId"}},
    "key": {
        # no pattern: some clients remove slashes from parameters and could not match one
        "description": "What follows /v1/media/ in the URL of a stored file, such as public/2026/01/31/NAME.png.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 1024},
    },
}


def document(settings: Settings, endpoints: Sequence[Endpoint]) -> Json:
    """The whole document, for an app with these settings."""
    kinds = {model.kind for model in settings.served.values()}
    operations = [endpoint for endpoint in endpoints if KIND_OF.get(endpoint.tag) in (None, *kinds)]
    schemas = _schemas(operations)
    schemas["ModelId"] = {"type": "string", "enum": [id for model in settings.served.values() for id in model.ids]}
    for operation in operations:
        for model in (operation.body, operation.body and extension_of(operation.body)):
            if model is not None:
                _narrow(schemas[model.__name__], model, KIND_OF[operation.tag], settings)
    has_keys = bool(settings.access.keys_env or settings.access.keys_file)
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(_path(operation), {})[operation.method.lower()] = _operation(operation, schemas, has_keys)
    content = {JSON: {"schema": _ref(ErrorResponse)}}
    responses = {
        str(status): {"description": said, "content": content, "headers": ERROR_HEADERS.get(status, {})}
        for status, said in ERRORS.items()
    }
    made: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "diffusion-serve",
            "version": version("diffusion-serve"),
            "description": "Text, images and video by diffusion models, with OpenAI's API and Dynamo's `nvext`.",
        },
        "paths": paths,
        "components": {"schemas": schemas, "responses": responses},
    }
    if has_keys:
        made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return made


# --- schemas --------------------------------------------------------------------------------------------------------


class _Untitled(GenerateJsonSchema):
    """Omits pydantic's titles, which only repeat the field names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


LENGTHS = {"prompt_chars": "maxLength", "messages": "maxItems"}
"""Keywords for limits of length. Other limits are maxima."""


def _schemas(operations: Sequence[Endpoint]) -> dict[str, Json]:
    """The components, by the names of their models."""
    asked: dict[Any, Literal["validation", "serialization"]] = {ErrorResponse: "serialization"}
    for operation in operations:
        asked |= {model: "serialization" for model in operation.answers.values() if model not in (None, Json)}
        asked |= {model: "validation" for model in (operation.body, operation.query) if model is not None}
    _, shared = TypeAdapter.json_schemas(
        [(model.__name__, mode, TypeAdapter(model)) for model, mode in asked.items()],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Untitled,
    )
    return shared["$defs"]


def _ref(model: Any) -> Json:
    return {"type": "object"} if model is Json else {"$ref": f"#/components/schemas/{model.__name__}"}


def _narrow(schema: Json, model: type[BaseModel], kind: Kind, settings: Settings) -> None:
    """Lays the running limits and defaults over the fields of a body, or of its `nvext`.

    Bounds stand at a field's first alternative, where null is another.
    """
    own, default = _widest(settings, kind), settings.default_model(kind)
    ids = [id for model in settings.served.values() if model.kind == kind for id in model.ids]
    choice: Json = {"enum": ids} | ({"default": default.id} if default else {})
    for name, field in model.model_fields.items():
        keywords = choice.copy() if name == "model" else _size(own) if name == "size" else {}
        for bound in (mark for mark in field.metadata if isinstance(mark, Bound)):
            keywords = _keywords(bound, own)
        written = schema["properties"][name]
        said = {key: keywords.pop(key) for key in ("default", "description") if key in keywords}
        written.get("anyOf", [written])[0].update(keywords)
        written.update(said)


def _keywords(bound: Bound, model: AnyModel) -> Json:
    made: Json = {}
    if bound.most:
        made[LENGTHS.get(bound.most, "maximum")] = int(getattr(model.limits, bound.most))
    if bound.least:
        made["minimum"] = getattr(model.limits, bound.least)
    default = getattr(model.defaults, bound.default) if isinstance(bound.default, str) else bound.default
    if default is not None:  # else it is the model's own
        made["default"] = default
    return made


def _widest(settings: Settings, kind: Kind) -> AnyModel:
    """The defaults of the default model of one kind, with limits that no model of the kind goes beyond."""
    models = [model for model in settings.served.values() if model.kind == kind]
    default = settings.default_model(kind) or models[0]
    limits: dict[str, Any] = {
        name: (min if name.startswith("min_") else max)(getattr(model.limits, name) for model in models)
        for name in type(default.limits).model_fields
    }
    return default.model_copy(update={"limits": default.limits.model_copy(update=limits)})


def _size(model: AnyModel) -> Json:
    assert not isinstance(model, TextSettings), "texts have no size"
    limits, defaults = model.limits, model.defaults
    even = "even, " if model.kind == "video" else ""
    return {
        "pattern": "^([1-9][0-9]{0,4}x[1-9][0-9]{0,4}|auto)$",
        "description": f"WIDTHxHEIGHT, each {even}{limits.min_side} to {limits.max_side} pixels; or auto.",
        "default": f"{defaults.width}x{defaults.height}",
    }


# --- operations -----------------------------------------------------------------------------------------------------


def _operation(operation: Endpoint, schemas: dict[str, Json], has_keys: bool) -> Json:
    made: Json = {
        "operationId": "_".join([operation.method.lower(), *re.findall(r"\w+", _path(operation).removeprefix("/v1"))]),
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": _parameters(operation, schemas),
        "responses": _responses(operation, has_keys),
    }
    if operation.body is not None:
        made["requestBody"] = {"required": True, "content": _body(operation.body, operation.example, schemas)}
    if has_keys and operation.path.startswith("/v1/"):
        made["security"] = [{"key": []}]
    return made


def _path(operation: Endpoint) -> str:
    return operation.path.replace(":path}", "}")


def _parameters(operation: Endpoint, schemas: dict[str, Json]) -> list[Json]:
    names = re.findall(r"{(\w+)}", _path(operation))
    made: list[Json] = [{"name": name, "in": "path", "required": True, **PATH_PARAMETERS[name]} for name in names]
    headers = [*operation.headers, *(["Idempotency-Key"] if operation.body else [])]
    made += [{"name": name, "in": "header", "required": False, **HEADERS[name]} for name in headers]
    query = schemas[operation.query.__name__]["properties"] if operation.query else {}
    return made + [{"name": name, "in": "query", "required": False, "schema": query[name]} for name in query]


def _body(body: type[Wire], example: Json, schemas: dict[str, Json]) -> Json:
    if (model := schemas[body.__name__]["properties"].get("model")) is not None:  # the default, else the first
        example = example | {"model": model.get("default") or model["anyOf"][0]["enum"][0]}
    content: Json = {JSON: {"schema": _ref(body), "example": example}}
    return content | ({"multipart/form-data": {"schema": _form(body, schemas)}} if body.FILES else {})


def _form(body: type[Wire], schemas: dict[str, Json]) -> Json:
    """The same fields as a form has them: nested ones by bracketed names, uploads where files may come.

    As in JSON, null is allowed where a field may be left out: the text `null` counts so.
    """
    schema, properties = schemas[body.__name__], Json()
    required = [*schema.get("required", ()), *(body.FILES[:1] if "anyOf" in schema else ())]
    for name, written in schema["properties"].items():
        first: Json = written.get("anyOf", [written])[0]
        first = schemas.get(first.get("$ref", "").rpartition("/")[2], first)
        if name in body.FILES:
            properties[name] = {**BINARY, "description": written.get("description", "")}
        elif "properties" in first:
            properties |= {f"{name}[{inner}]": below for inner, below in first["properties"].items()}
        elif first.get("type") == "boolean":
            properties[name] = {"anyOf": [BOOLEAN, {"type": "null"}]}
        elif name != "images":  # in a form these are files named image[]
            properties[name] = written
    return {"type": "object", "properties": properties, "required": required}


# --- responses ------------------------------------------------------------------------------------------------------


def _responses(operation: Endpoint, has_keys: bool) -> Json:
    content = {kind: {"schema": _ref(model)} if model else {} for kind, model in operation.answers.items()}
    made: Json = {"200": {"description": operation.summary, "content": content}}
    for status, description in operation.also.items():
        made[str(status)] = {"description": description, **({"content": content} if status == 206 else {})}
    errors = {
        *operation.errors,
        *(MAKES if operation.body else ()),
        *((401, 429) if has_keys and operation.path.startswith("/v1/") else ()),
    }
    return made | {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(errors)}
