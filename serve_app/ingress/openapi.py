"""The OpenAPI 3.1 document, made from the models that parse the requests and from the running settings.

Limits become bounds, served models become enums, and kinds without a model have no paths. Pure: settings in, a
dict out. What the running code does beyond the models (an even width) stands in descriptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from serve_app.model_settings import (
    ImageDefaults,
    ImageLimits,
    ImageSettings,
    TextSettings,
    VideoDefaults,
    VideoLimits,
    VideoSettings,
)
from serve_app.protocol.chat import ChatCompletion, ChatRequest
from serve_app.protocol.completions import Completion, CompletionRequest
from serve_app.protocol.errors import ErrorResponse
from serve_app.protocol.images import EditRequest, GenerationRequest, ImagesResponse
from serve_app.protocol.models import Model, ModelList
from serve_app.protocol.videos import (
    ContentQuery,
    ListQuery,
    RemixRequest,
    Video,
    VideoDeleted,
    VideoList,
    VideoRequest,
)
from serve_app.settings import Settings
from serve_app.tasks import Kind

Json = dict[str, Any]
M = TypeVar("M", TextSettings, ImageSettings, VideoSettings)
EVENTS = "text/event-stream"
JSON = "application/json"
BOOLEAN = "^([01tTfFyYnN]|[oO][nN]|[nN][oO]|[oO][fF][fF]|[yY][eE][sS]|[tT][rR][uU][eE]|[fF][aA][lL][sS][eE])$"
"""A boolean in a form, as pydantic reads it."""
SUNSET = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQMAAAAlPW0iAAAABlBMVEUoWqDmeDwUttOQAAAAEklEQVR42mNgwA4Y/zMwMWBB"
    "ABfZAQ/GgRizAAAAAElFTkSuQmCC"
)
"""A picture to edit: 16 x 16 pixels, blue above orange."""
ONLY_NULL: Json = {"type": "null", "description": "Accepted as null only."}
BINARY: Json = {"type": "string", "format": "binary"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One row of the API. `answers` maps content types of the 200 to a model, or to None for bytes and text.

    `example` is a body that works as it stands, where the path has no id; the model's name is put into it.
    """

    method: Literal["get", "post", "delete"]
    path: str
    summary: str
    tag: str
    answers: dict[str, Any]
    body: type[BaseModel] | None = None
    example: Json = field(default_factory=Json)
    files: tuple[str, ...] = ()
    query: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()
    also: dict[int, str] = field(default_factory=dict[int, str])


MAKES = (400, 404, 413, 415, 429, 500, 503, 504)
READS = (400, 404, 500, 503)
TEXT = (
    Operation(
        method="post",
        path="/v1/chat/completions",
        summary="A chat completion, whole or block by block",
        tag="Text",
        body=ChatRequest,
        example={"messages": [{"role": "user", "content": "Hello! How are you?"}]},
        answers={JSON: ChatCompletion, EVENTS: None},
        headers=("Idempotency-Key",),
        errors=MAKES,
    ),
    Operation(
        method="post",
        path="/v1/completions",
        summary="A completion, whole or block by block",
        tag="Text",
        body=CompletionRequest,
        example={"prompt": "Once upon a time"},
        answers={JSON: Completion, EVENTS: None},
        headers=("Idempotency-Key",),
        errors=MAKES,
    ),
)
IMAGES = (
    Operation(
        method="post",
        path="/v1/images/generations",
        summary="Images from a prompt",
        tag="Images",
        body=GenerationRequest,
        example={"prompt": "A sunset over the ocean"},
        files=("input_reference",),
        answers={JSON: ImagesResponse, EVENTS: None},
        headers=("Idempotency-Key",),
        errors=MAKES,
    ),
    Operation(
        method="post",
        path="/v1/images/edits",
        summary="Images from an image and a prompt",
        tag="Images",
        body=EditRequest,
        example={"prompt": "A sunset over the ocean", "image": SUNSET},
        files=("image", "mask"),
        answers={JSON: ImagesResponse, EVENTS: None},
        headers=("Idempotency-Key",),
        errors=MAKES,
    ),
)
ONE = "/v1/videos/{id}"
VIDEOS = (
    Operation(
        method="post",
        path="/v1/videos",
        summary="A video: as a job, or synchronously",
        tag="Videos",
        body=VideoRequest,
        example={"prompt": "A sunset over the ocean", "response_format": "url"},
        files=("input_reference",),
        answers={JSON: Video, EVENTS: None},
        headers=("Prefer", "Idempotency-Key"),
        errors=MAKES,
    ),
    Operation(
        method="post",
        path="/v1/videos/sync",
        summary="A video: the MP4 itself",
        tag="Videos",
        body=VideoRequest,
        example={"prompt": "A sunset over the ocean"},
        files=("input_reference",),
        answers={"video/mp4": None, JSON: Video},
        headers=("Prefer", "Idempotency-Key"),
        errors=MAKES,
    ),
    Operation(
        method="get",
        path="/v1/videos",
        summary="The caller's videos, newest first",
        tag="Videos",
        query=ListQuery,
        answers={JSON: VideoList},
        errors=READS,
    ),
    Operation(method="get", path=ONE, summary="A video's job", tag="Videos", answers={JSON: Video}, errors=READS),
    Operation(
        method="delete",
        path=ONE,
        summary="Delete a video's job and files; one that still runs is cancelled",
        tag="Videos",
        answers={JSON: VideoDeleted},
        errors=READS,
    ),
    Operation(
        method="get",
        path=f"{ONE}/content",
        summary="The file: the video, its thumbnail or its spritesheet",
        tag="Videos",
        query=ContentQuery,
        answers={"video/mp4": None, "image/webp": None, "image/jpeg": None},
        headers=("Range",),
        errors=(*READS, 416),
        also={206: "A part of the file", 304: "Not modified", 307: "Where the file lies"},
    ),
    Operation(
        method="post",
        path=f"{ONE}/cancel",
        summary="Cancel a video; one that has ended stays as it is",
        tag="Videos",
        answers={JSON: Video},
        errors=READS,
    ),
    Operation(
        method="post",
        path=f"{ONE}/remix",
        summary="The same parameters with another prompt",
        tag="Videos",
        body=RemixRequest,
        example={"prompt": "A sunrise over the ocean"},
        answers={JSON: Video},
        headers=("Idempotency-Key",),
        errors=MAKES,
    ),
    Operation(
        method="get",
        path=f"{ONE}/events",
        summary="Progress until the end, as server-sent events",
        tag="Videos",
        answers={EVENTS: None},
        errors=READS,
    ),
)
OTHERS = (
    Operation(method="get", path="/v1/models", summary="The models served", tag="Models", answers={JSON: ModelList}),
    Operation(
        method="get", path="/v1/models/{model}", summary="One model", tag="Models", answers={JSON: Model}, errors=(404,)
    ),
    Operation(
        method="get",
        path="/v1/media/{key}",
        summary="A result in local storage, by the URL that an answer gave",
        tag="Media",
        answers=dict.fromkeys(("image/png", "image/jpeg", "image/webp", "video/mp4")),
        headers=("Range",),
        errors=(403, 404, 416, 500, 503),
        also={206: "A part of the file", 304: "Not modified"},
    ),
    Operation(method="get", path="/health", summary="Whether this process lives", tag="Health", answers={JSON: Json}),
    Operation(
        method="get",
        path="/ready",
        summary="Whether the models that should run are warmed up",
        tag="Health",
        answers={JSON: Json},
        errors=(503,),
    ),
    Operation(method="get", path="/metrics", summary="Prometheus metrics", tag="Health", answers={"text/plain": None}),
)
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
HEADERS: dict[str, Json] = {
    "Idempotency-Key": {
        "description": "The same key with the same body gives the same result or job; with another body it is a 400. "
        "A stream is given again from its result: a text as one block, an image without its previews.",
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
    "model": {
        "description": "The id of a model; it may hold slashes.",
        "schema": {"$ref": "#/components/schemas/ModelId"},
    },
    "key": {
        # no pattern: one that asks for a slash cannot be met by who takes the slashes out of parameters
        "description": "What follows /v1/media/ in the URL of a stored file, such as public/2026/01/31/NAME.png.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 1024},
    },
}


def document(settings: Settings) -> Json:
    """The whole document, for an app with these settings."""
    kinds = {model.kind for model in settings.served.values()}
    operations: list[Operation] = []
    for kind, of_kind in (("text", TEXT), ("image", IMAGES), ("video", VIDEOS)):
        operations += of_kind if kind in kinds else ()
    operations += OTHERS
    schemas, refs = _schemas(operations)
    if "EditRequest" in schemas:
        # optional in the model, for a form has it among its files
        schemas["EditRequest"]["anyOf"] = [{"required": ["image"]}, {"required": ["images"]}]
        for name in ("image", "images"):
            schemas["EditRequest"]["properties"][name] = _without_null(schemas["EditRequest"]["properties"][name])
    schemas["ModelId"] = {"type": "string", "enum": [model.id for model in settings.served.values()]}
    for component, bounds in _bounds(settings).items():
        if component in schemas:
            _narrow(schemas[component], bounds)
    has_keys = bool(settings.access.keys_env or settings.access.keys_file)
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schemas, refs, has_keys)
    made: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "diffusion-serve",
            "version": version("diffusion-serve"),
            "description": "Text, images and video by diffusion models, with OpenAI's API and Dynamo's `nvext`.",
        },
        "paths": paths,
        "components": {"schemas": schemas, "responses": _error_responses(refs)},
    }
    if has_keys:
        made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return made


# --- schemas --------------------------------------------------------------------------------------------------------


class _Untitled(GenerateJsonSchema):
    """Without pydantic's titles, which say each field's name once more."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


Refs = dict[Any, Json]
"""The schema of each model, most often a reference to its component."""


KEYWORDS = {
    "integer": ("minimum", "maximum", "enum"),
    "number": ("maximum", "enum"),
    "boolean": ("enum",),
    "string": ("maxLength", "pattern", "enum"),
    "array": ("items", "minItems", "maxItems"),
    "object": ("maxProperties",),
}


def _schemas(operations: Sequence[Operation]) -> tuple[dict[str, Json], Refs]:
    asked: dict[Any, Literal["validation", "serialization"]] = {ErrorResponse: "serialization"}
    for operation in operations:
        asked |= {model: "serialization" for model in operation.answers.values() if model not in (None, Json)}
        asked |= {model: "validation" for model in (operation.body, operation.query) if model is not None}
    found, shared = TypeAdapter.json_schemas(
        [(model.__name__, mode, TypeAdapter(model)) for model, mode in asked.items()],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Untitled,
    )
    refs = {model: found[model.__name__, mode] for model, mode in asked.items()}
    return shared["$defs"], {**refs, Json: {"type": "object"}}


def _narrow(schema: Json, bounds: dict[str, Json]) -> None:
    """Lays keywords over the properties of an object: bounds over the member that is not null, where one may be."""
    for name, keywords in bounds.items():
        if keywords is ONLY_NULL:
            schema["properties"][name] = keywords
            continue
        written = schema["properties"][name]
        for member in written.get("anyOf", [written]):
            if member.get("type") != "null":
                member.update(_applicable(member, keywords))
        written.update({key: value for key, value in keywords.items() if key in ("default", "description")})


def _applicable(member: Json, keywords: Json) -> Json:
    """Those keywords that say something of a member of its type."""
    own = KEYWORDS.get(member.get("type", ""), ())
    return {key: value for key, value in keywords.items() if key in own}


def _bounds(settings: Settings) -> dict[str, dict[str, Json]]:
    """The running limits and defaults, by component and property."""
    text = _widest(settings, TextSettings)
    image, video = _widest(settings, ImageSettings), _widest(settings, VideoSettings)
    return {
        "ChatRequest": _text_bounds(text, settings)
        | {
            "messages": {"maxItems": text.limits.messages},
            "max_completion_tokens": {"maximum": text.limits.max_tokens},
            "logprobs": {"enum": [False]},
            "top_logprobs": {"maximum": 0},
            "tool_choice": {"enum": ["none", "auto"]},
            "function_call": {"enum": ["none", "auto"]},
            "modalities": {"items": {"enum": ["text"]}, "minItems": 1, "maxItems": 1},
        },
        "CompletionRequest": _text_bounds(text, settings)
        | {
            "logprobs": ONLY_NULL,
            "best_of": {"maximum": text.limits.n},
            "echo": {"enum": [False]},
            "suffix": {"maxLength": 0},
        },
        "ResponseFormat": {"type": {"enum": ["text"]}},
        "GenerationRequest": _image_bounds(image, settings),
        "EditRequest": _image_bounds(image, settings),
        "ImageExtension": {
            "width": {"minimum": image.limits.min_side, "maximum": image.limits.max_side},
            "height": {"minimum": image.limits.min_side, "maximum": image.limits.max_side},
            "num_inference_steps": _most(image.limits.steps, image.defaults.num_inference_steps),
            "guidance_scale": {"default": image.defaults.guidance_scale},
            "negative_prompt": {"maxLength": image.limits.prompt_chars},
        },
        "VideoRequest": _video_bounds(video, settings),
        "RemixRequest": {"prompt": {"maxLength": video.limits.prompt_chars}},
        "VideoNvExt": {
            "width": {"minimum": video.limits.min_side, "maximum": video.limits.max_side},
            "height": {"minimum": video.limits.min_side, "maximum": video.limits.max_side},
            "fps": _most(video.limits.fps, video.defaults.fps),
            "num_frames": _most(video.limits.frames, video.defaults.num_frames),
            "num_inference_steps": _most(video.limits.steps, video.defaults.num_inference_steps),
            "guidance_scale": {"default": video.defaults.guidance_scale},
            "negative_prompt": {"maxLength": video.limits.prompt_chars},
        },
    }


def _widest(settings: Settings, cls: type[M]) -> M:
    """The defaults of the default model of one kind, with limits that no model of the kind goes beyond."""
    models = [model for model in settings.served.values() if isinstance(model, cls)] or [cls()]
    default = next((model for model in models if model is settings.default_model(model.kind)), models[0])
    limits: dict[str, Any] = {
        name: (min if name.startswith("min_") else max)(getattr(model.limits, name) for model in models)
        for name in type(default.limits).model_fields
    }
    return default.model_copy(update={"limits": default.limits.model_copy(update=limits)})


def _choice(settings: Settings, kind: Kind) -> Json:
    """The ids of the models of one kind, and which of them a request means that names none."""
    default = settings.default_model(kind)
    ids = [model.id for model in settings.served.values() if model.kind == kind]
    return {"enum": ids} | ({"default": default.id} if default else {})


def _text_bounds(text: TextSettings, settings: Settings) -> dict[str, Json]:
    return {
        "model": _choice(settings, "text"),
        "max_tokens": _most(text.limits.max_tokens, text.defaults.max_tokens),
        "n": _most(text.limits.n, 1),
        # what no diffusion language model can do is refused, but for the value that asks for nothing
        "presence_penalty": {"enum": [0]},
        "frequency_penalty": {"enum": [0]},
        "logit_bias": {"maxProperties": 0},
    }


def _image_bounds(image: ImageSettings, settings: Settings) -> dict[str, Json]:
    return {
        "prompt": {"maxLength": image.limits.prompt_chars},
        "model": _choice(settings, "image"),
        "n": _most(image.limits.n, 1),
        "size": _size(image.limits, image.defaults),
        "output_format": {"default": image.defaults.output_format},
    }


def _video_bounds(video: VideoSettings, settings: Settings) -> dict[str, Json]:
    return {
        "prompt": {"maxLength": video.limits.prompt_chars},
        "model": _choice(settings, "video"),
        "seconds": {"maximum": int(video.limits.seconds)},
        "size": _size(video.limits, video.defaults, "even, "),
    }


def _most(maximum: int, default: int) -> Json:
    return {"maximum": maximum, "default": default}


def _size(limits: ImageLimits | VideoLimits, defaults: ImageDefaults | VideoDefaults, also: str = "") -> Json:
    return {
        "pattern": "^([1-9][0-9]{0,4}x[1-9][0-9]{0,4}|auto)$",
        "description": f"WIDTHxHEIGHT, each {also}{limits.min_side} to {limits.max_side} pixels; or auto.",
        "default": f"{defaults.width}x{defaults.height}",
    }


# --- operations -----------------------------------------------------------------------------------------------------


def _operation(operation: Operation, schemas: dict[str, Json], refs: Refs, has_keys: bool) -> Json:
    made: Json = {
        "operationId": _name(operation),
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": _parameters(operation, schemas, refs),
        "responses": _responses(operation, refs, has_keys),
    }
    if operation.body is not None:
        made["requestBody"] = {"required": True, "content": _body(operation, schemas, refs)}
    if has_keys and operation.path.startswith("/v1/"):
        made["security"] = [{"key": []}]
    return made


def _name(operation: Operation) -> str:
    words = operation.path.replace("/v1", "").replace("{", "").replace("}", "").strip("/").split("/")
    return "_".join([operation.method, *words])


def _parameters(operation: Operation, schemas: dict[str, Json], refs: Refs) -> list[Json]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    made: list[Json] = [{"name": name, "in": "path", "required": True, **PATH_PARAMETERS[name]} for name in names]
    made += [{"name": name, "in": "header", "required": False, **HEADERS[name]} for name in operation.headers]
    if operation.query is not None:
        properties = _resolved(refs[operation.query], schemas)["properties"]
        made += [
            {"name": name, "in": "query", "required": False, "schema": _without_null(schema)}
            for name, schema in properties.items()
        ]
    return made


def _body(operation: Operation, schemas: dict[str, Json], refs: Refs) -> Json:
    ref = refs[operation.body]
    properties = _resolved(ref, schemas)["properties"]
    model = {"model": _example(properties["model"])} if "model" in properties else {}
    content: Json = {JSON: {"schema": ref, "example": {**model, **operation.example}}}
    if operation.files:
        content["multipart/form-data"] = {"schema": _form(_resolved(ref, schemas), operation.files, schemas)}
    return content


def _example(model: Json) -> str:
    """The model that examples name: the default, else the first."""
    return model.get("default") or next(member["enum"][0] for member in model["anyOf"] if "enum" in member)


def _form(schema: Json, files: Sequence[str], schemas: dict[str, Json]) -> Json:
    """The same fields as a form has them: nested ones by bracketed names, uploads where files may come.

    The text `null` counts as left out, so null is allowed where a field may be left out.
    """
    properties: Json = {}
    required = [*schema.get("required", ()), *(files[:1] if "anyOf" in schema else ())]
    for name, each in schema["properties"].items():
        if name == "images":
            continue  # in a form they are files, of the name image[]
        one = _resolved(_without_null(each), schemas)
        if name in files:
            properties[name] = {**BINARY, "description": each.get("description", "")}
        elif one.get("type") == "object" and "properties" in one:
            for inner, below in one["properties"].items():
                properties[f"{name}[{inner}]"] = _or_null(_resolved(_without_null(below), schemas))
        elif one.get("type") == "boolean":
            properties[name] = _or_null({"type": "string", "pattern": BOOLEAN, "description": "true or false"})
        else:
            properties[name] = one if name in required else _or_null(one)
    return {"type": "object", "properties": properties, "required": required}


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _without_null(schema: Json) -> Json:
    """An optional field's schema as that of a field that is given or left out."""
    members = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default") or not members}
    if schema.get("default", "") is not None and "default" in schema:
        rest["default"] = schema["default"]
    else:
        rest.pop("default", None)
    if len(members) == 1:
        return {**members[0], **rest}
    return {**rest, "anyOf": members} if members else rest


def _resolved(schema: Json, schemas: dict[str, Json]) -> Json:
    ref: str | None = schema.get("$ref")
    return schemas[ref.rsplit("/", 1)[-1]] if ref else schema


# --- responses ------------------------------------------------------------------------------------------------------


def _responses(operation: Operation, refs: Refs, has_keys: bool) -> Json:
    content = {each: {"schema": refs[model]} if model else {} for each, model in operation.answers.items()}
    made: Json = {"200": {"description": operation.summary, "content": content}}
    files = {each: {} for each, model in operation.answers.items() if model is None}
    for status, description in operation.also.items():
        made[str(status)] = {"description": description, **({"content": files} if status == 206 else {})}
    errors = {*operation.errors, *((401, 429) if has_keys and operation.path.startswith("/v1/") else ())}
    for status in sorted(errors):
        made[str(status)] = {"$ref": f"#/components/responses/{status}"}
    return made


def _error_responses(refs: Refs) -> Json:
    return {
        str(status): {
            "description": description,
            "content": {JSON: {"schema": refs[ErrorResponse]}},
            **({"headers": {"Retry-After": {"schema": {"type": "integer"}}}} if status == 429 else {}),
            **({"headers": {"WWW-Authenticate": {"schema": {"type": "string"}}}} if status == 401 else {}),
        }
        for status, description in ERRORS.items()
    }
