from __future__ import annotations

from typing import Any

import pytest

from serve_app.errors import InvalidRequest, UnsupportedParameter
from serve_app.protocol.common import parse
from serve_app.protocol.completions import ChatRequest
from serve_app.protocol.images import EditRequest, GenerationRequest

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
IMAGE: dict[str, Any] = {"prompt": "a fox"}


@pytest.mark.parametrize(
    ("model", "data", "param", "said"),
    [
        (ChatRequest, {}, "messages", "is required"),
        (ChatRequest, {"messages": []}, "messages", "at least 1"),
        (ChatRequest, {"messages": "hi"}, "messages", "valid list"),
        (ChatRequest, {"messages": ["hi"]}, "messages[0]", "must be an object"),
        (ChatRequest, {"messages": [{"content": "hi"}]}, "messages[0].role", "is required"),
        (ChatRequest, {"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role", "'user'"),
        (ChatRequest, {"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "string"),
        (ChatRequest, {"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content", "parts"),
        (ChatRequest, {"messages": [{"role": "user", "content": [5]}]}, "messages[0].content", "parts"),
        (ChatRequest, CHAT | {"max_tokens": 0}, "max_tokens", "greater than or equal to 1, not 0"),
        (ChatRequest, CHAT | {"max_tokens": "5"}, "max_tokens", "valid integer, not '5'"),
        (ChatRequest, CHAT | {"max_tokens": True}, "max_tokens", "valid integer, not True"),
        (ChatRequest, CHAT | {"temperature": "hot"}, "temperature", "valid number"),
        (ChatRequest, CHAT | {"temperature": 2.5}, "temperature", "less than or equal to 2"),
        (ChatRequest, CHAT | {"top_p": 0}, "top_p", "greater than 0"),
        (ChatRequest, CHAT | {"stop": ["a"] * 5}, "stop", "at most 4"),
        (ChatRequest, CHAT | {"stop": 5}, "stop", "a string or a list"),
        (ChatRequest, CHAT | {"stop": [""]}, "stop[0]", "at least 1"),
        (ChatRequest, CHAT | {"stream": "true"}, "stream", "valid boolean"),
        (ChatRequest, CHAT | {"seed": 2**63}, "seed", "less than or equal"),
        (ChatRequest, CHAT | {"model": 5}, "model", "valid string"),
        (ChatRequest, CHAT | {"nvext": {"speed": 1}}, "nvext.speed", "Allowed there: .*annotations, ignore_eos"),
        (ChatRequest, CHAT | {"nvext": [1]}, "nvext", "must be an object"),
        (ChatRequest, CHAT | {"nvext": {"annotations": "denoising"}}, "nvext.annotations", "valid list"),
        (ChatRequest, CHAT | {"response_format": {"type": "xml"}}, "response_format.type", "'json_schema'"),
        (GenerationRequest, {}, "prompt", "is required"),
        (GenerationRequest, IMAGE | {"prompt": ""}, "prompt", "at least 1"),
        (GenerationRequest, IMAGE | {"prompt": ["a"]}, "prompt", "valid string"),
        (GenerationRequest, IMAGE | {"n": 0}, "n", "greater than or equal to 1"),
        (GenerationRequest, IMAGE | {"n": 11}, "n", "less than or equal to 10"),
        (GenerationRequest, IMAGE | {"n": 1.5}, "n", "integer"),
        (GenerationRequest, IMAGE | {"quality": "best"}, "quality", "'standard', 'hd'"),
        (GenerationRequest, IMAGE | {"output_format": "gif"}, "output_format", "'png', 'jpeg' or 'webp'"),
        (GenerationRequest, IMAGE | {"response_format": "file"}, "response_format", "'url' or 'b64_json'"),
        (GenerationRequest, IMAGE | {"partial_images": 4}, "partial_images", "less than or equal to 3"),
        (GenerationRequest, IMAGE | {"output_compression": 101}, "output_compression", "100"),
        (GenerationRequest, IMAGE | {"nvext": {"seed": -1}}, "nvext.seed", "greater than or equal to 0"),
        (GenerationRequest, IMAGE | {"nvext": {"num_inference_steps": -4}}, "nvext.num_inference_steps", "not -4"),
        (GenerationRequest, IMAGE | {"nvext": {"guidance_scale": "x"}}, "nvext.guidance_scale", "number"),
        (GenerationRequest, IMAGE | {"nvext": {"fps": 8}}, "nvext.fps", "Allowed there: negative_prompt"),
        (GenerationRequest, IMAGE | {"input_reference": 5}, "input_reference", "object"),
        (EditRequest, IMAGE | {"image": ["a"] * 17}, "image", "at most 16 items"),
        (GenerationRequest, IMAGE | {"seed": -1}, "seed", "greater than or equal to 0"),
        (GenerationRequest, IMAGE | {"extra_params": {"seed": "a"}}, "extra_params.seed", "integer"),
    ],
)
def test_the_field_at_fault_is_named(model: type[Any], data: dict[str, Any], param: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as raised:
        parse(model, data)
    assert raised.value.param == param
    assert raised.value.code == "invalid_value"
    assert "pydantic" not in raised.value.message


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_parts_that_are_no_text_are_unsupported(kind: str) -> None:
    content = [{"type": "text", "text": "what is this?"}, {"type": kind, kind: {"url": "https://x/"}}]
    with pytest.raises(UnsupportedParameter, match=rf"'{kind}' at \[1\]") as raised:
        parse(ChatRequest, {"messages": [{"role": "user", "content": content}]})
    assert raised.value.param == "messages[0].content"


def test_hostile_names_and_values_are_cut_short() -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse(ChatRequest, CHAT | {"nvext": {"x" * 100_000: 1}})
    assert len(raised.value.message) < 1000
    assert len(raised.value.param or "") < 100
    with pytest.raises(InvalidRequest) as raised:
        parse(ChatRequest, CHAT | {"stream": "y" * 100_000})
    assert len(raised.value.message) < 1000


def test_forms_are_coerced_and_json_is_not() -> None:
    data = {"prompt": "a fox", "n": "2", "stream": "true", "nvext": {"seed": "5", "guidance_scale": "1.5"}}
    asked = parse(GenerationRequest, data, form=True)
    assert asked.nvext is not None
    assert (asked.n, asked.stream, asked.nvext.seed, asked.nvext.guidance_scale) == (2, True, 5, 1.5)
    with pytest.raises(InvalidRequest):
        parse(GenerationRequest, data)
    with pytest.raises(InvalidRequest, match="finite"):
        parse(GenerationRequest, {"prompt": "a", "nvext": {"guidance_scale": "inf"}}, form=True)
