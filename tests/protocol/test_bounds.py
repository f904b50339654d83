"""No list or object of a request is looked at item by item before its length is: pydantic keeps an error for each."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from serve_app.errors import InvalidRequest
from serve_app.protocol.common import extension_of, parse
from serve_app.protocol.completions import ChatRequest, CompletionRequest
from serve_app.protocol.images import EditRequest, GenerationRequest
from serve_app.protocol.videos import RemixRequest, VideoRequest

MANY = 40_000
"""As many as `limits.json_values` lets through."""
FEW_ERRORS = 40
GOOD: dict[type[BaseModel], dict[str, Any]] = {
    ChatRequest: {"messages": [{"role": "user", "content": "hi"}]},
    CompletionRequest: {"prompt": "hi"},
    GenerationRequest: {"prompt": "hi"},
    EditRequest: {"prompt": "hi", "image": "https://x/a.png"},
    VideoRequest: {"prompt": "hi"},
    RemixRequest: {"prompt": "hi"},
}
NAMES = {f"name{i}": "x" for i in range(MANY)}
WORST: list[Any] = [[1] * MANY, [[]] * MANY, ["x"] * MANY, [None] * MANY, [{}] * MANY, NAMES, [NAMES]]


def errors_of(model: type[BaseModel], body: dict[str, Any]) -> int:
    try:
        model.__pydantic_validator__.validate_python(body, strict=True)
    except ValidationError as error:
        return error.error_count()
    return 0


@pytest.mark.parametrize("model", GOOD, ids=lambda model: model.__name__)
def test_the_work_for_a_field_does_not_grow_with_its_items(model: type[BaseModel]) -> None:
    for field in model.model_fields:
        for value in WORST:
            assert errors_of(model, {**GOOD[model], field: value}) <= FEW_ERRORS, (field, str(value)[:32])
    extension = extension_of(model)
    for field in extension.model_fields if extension else ():
        for value in WORST:
            body = {**GOOD[model], "nvext": {field: value}}
            assert errors_of(model, body) <= FEW_ERRORS, (field, str(value)[:32])
    for value in WORST:
        content = {"role": "user", "content": value}
        assert errors_of(ChatRequest, {"messages": [content]}) <= FEW_ERRORS


def test_what_is_ignored_is_not_named_without_end() -> None:
    asked = parse(GenerationRequest, {"prompt": "hi", **NAMES, "extra_params": NAMES})
    assert len(asked.raw.ignored) == 33
    assert asked.raw.ignored[-1] == "..."


def test_a_long_text_is_neither_copied_nor_shown() -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse(GenerationRequest, {"prompt": "hi", "user": "x" * 1_000_000})
    assert len(raised.value.message) < 200
    assert raised.value.param == "user"
