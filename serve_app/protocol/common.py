"""What the wire models share: strict parsing, limits that name themselves, sizes, seeds, and the choice of a model."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve_app.errors import InvalidRequest, ModelNotFound, UnsupportedParameter
from serve_app.protocol.errors import SHOWN_CHARS, invalid

M = TypeVar("M", bound="Wire")

MAX_SEED = 2**32 - 1
Seed = Annotated[int, Field(ge=0, le=MAX_SEED, description="The same seed gives the same result.")]
SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


class Wire(BaseModel):
    """A request's body: unknown fields are ignored, numbers are finite, and nothing is coerced but in forms."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class NvExt(BaseModel):
    """NVIDIA Dynamo's extension object. Unknown keys are refused: a misspelt one would change the result silently."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


def parse(model: type[M], data: dict[str, Any], *, form: bool = False) -> M:
    """`data` as a `model`; with `form` its strings are coerced. Raises InvalidRequest that names the field."""
    try:
        return model.__pydantic_validator__.validate_python(data, strict=not form)
    except ValidationError as error:
        raise invalid(error, model, data) from None


def choose_model(asked: str | None, served: Sequence[str]) -> str:
    """The model's name; the only one where none was asked for. Raises ModelNotFound, listing those served."""
    if asked is None and len(served) == 1:
        return served[0]
    if asked is None or asked not in served:
        raise ModelNotFound.of((asked or "")[:SHOWN_CHARS], served)
    return asked


def at_most(param: str, value: int, limit: float, name: str) -> None:
    """Raises InvalidRequest that names the limit (`limits.n`) where `value` is above it."""
    if value > limit:
        # not as a float: a whole number of a request may have hundreds of digits
        shown = str(value) if value < 10**15 else "too large"
        raise InvalidRequest(f"'{param}' is {shown}; at most {limit:.15g} is allowed here ({name}).", param=param)


def checked_prompt(param: str, prompt: str, limit: int) -> str:
    """The prompt; raises InvalidRequest where it is blank or longer than `limit` characters."""
    if not prompt.strip():
        raise InvalidRequest(f"'{param}' holds no text.", param=param)
    if len(prompt) > limit:
        raise InvalidRequest(
            f"'{param}' has {len(prompt)} characters; at most {limit} are allowed here (limits.prompt_chars).",
            param=param,
        )
    return prompt


def parse_size(param: str, size: str, *, least: int, most: int) -> tuple[int, int]:
    """Width and height of `WIDTHxHEIGHT`, each within the bounds. Raises InvalidRequest."""
    match = SIZE.fullmatch(size)
    if match is None:
        raise InvalidRequest(
            f"'{param}' must be WIDTHxHEIGHT in pixels (such as 512x512) or auto, not '{size[:32]}'.", param=param
        )
    width, height = int(match[1]), int(match[2])
    if not (least <= width <= most and least <= height <= most):
        raise InvalidRequest(
            f"'{param}' is {size}; width and height must be {least} to {most} pixels here "
            "(limits.min_side, limits.max_side).",
            param=param,
        )
    return width, height


def draw_seed() -> int:
    """A seed for a request that gave none."""
    return secrets.randbelow(MAX_SEED + 1)


def refuse(param: str, why: str) -> UnsupportedParameter:
    """The error for a field that OpenAI defines and that cannot be honoured here."""
    return UnsupportedParameter(f"'{param}' is not supported: {why}", param=param)
