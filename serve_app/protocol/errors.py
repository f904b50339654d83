"""Turns pydantic's ValidationError into an InvalidRequest with a plain message and a `param`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from serve_app.errors import InvalidRequest, UnsupportedParameter
from serve_app.model_settings import models_in

SHOWN_CHARS = 64
"""How many characters of a caller's input an error repeats."""
COMPLAINTS = {
    "missing": "is required.",
    "model_type": "must be an object.",
    "dict_type": "must be an object.",
    "int_parsing_size": "is too large a number.",
}
"""What is said instead of pydantic's message for an error of that type."""
SHOULD = re.compile("^[A-Z][a-z]+ should ")


class ErrorObject(BaseModel):
    """OpenAI's error object; all four keys are always there."""

    message: str
    type: str = Field(description="invalid_request_error, authentication_error, rate_limit_error, server_error ...")
    param: str | None = Field(description="The field at fault, as a path such as nvext.seed or messages[0].content.")
    code: str | None = Field(description="What went wrong, as a word for programs.")


class ErrorResponse(BaseModel):
    """The body of every answer with a status of 400 or above."""

    error: ErrorObject


def invalid(error: ValidationError, model: type[BaseModel], data: Any, moved: Mapping[str, str]) -> InvalidRequest:
    """The first of the errors; `data` is what was parsed into `model`.

    `moved` says where a field of `nvext` stood in the body, if not there.
    """
    first = error.errors(include_url=False)[0]
    steps = _steps(first["loc"], data)
    param = dotted(steps)
    if steps[:1] == ["nvext"] and len(steps) > 1 and str(steps[1]) in moved:
        param = dotted([moved[str(steps[1])], *steps[2:]])
    # our validators raise it for well-formed requests that the model cannot do
    raised = UnsupportedParameter if first["type"] == "unsupported" else InvalidRequest
    return raised(f"'{param}' {_complaint(first, model, steps)}" if param else first["msg"], param=param)


def dotted(steps: Sequence[str | int]) -> str | None:
    """`("messages", 0, "content")` as `messages[0].content`."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step[:SHOWN_CHARS]}" for step in steps)
    return path.removeprefix(".") or None


def _steps(loc: Sequence[str | int], data: Any) -> list[str | int]:
    """The part of pydantic's location that leads through `data`: some values are wrapped before they are checked."""
    steps: list[str | int] = []
    for step in loc:
        if isinstance(data, dict) and isinstance(step, str):
            data = cast("dict[str, Any]", data).get(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = cast("list[Any]", data)[step]
        else:
            continue
        steps.append(step)
    return steps


def _complaint(first: ErrorDetails, model: type[BaseModel], steps: list[str | int]) -> str:
    kind = first["type"]
    if kind == "extra_forbidden":
        return f"is unknown. Allowed there: {', '.join(_allowed(model, steps))}."
    if kind == "value_error" and "ctx" in first:
        return str(first["ctx"]["error"])
    if kind == "unsupported":
        return first["msg"]
    if kind in COMPLAINTS:
        return COMPLAINTS[kind]
    said = SHOULD.sub("must ", first["msg"]).split(", unable to")[0].split(" after validation")[0]
    given = first["input"]
    # the length of a text first: a copy of a long one costs as much again
    is_short = isinstance(given, int | float) or (isinstance(given, str) and len(given) <= SHOWN_CHARS)
    return f"{said}, not {shown}." if is_short and len(shown := repr(given)) <= SHOWN_CHARS else f"{said}."


def _allowed(model: type[BaseModel], steps: list[str | int]) -> list[str]:
    """The fields of the model that `steps` lead into, from `model` down; the last step is the unknown one."""
    for step in steps[:-1]:
        field = model.model_fields.get(str(step))
        inner = None if field is None else next(models_in(field.annotation), None)
        if inner is None:
            break
        model = inner
    return list(model.model_fields)
