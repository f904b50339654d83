"""Values of a caller who means harm: each is refused by a 4xx that names the field, and the server goes on."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from serve_app.protocol.completions import ChatRequest, CompletionRequest
from serve_app.protocol.images import EditRequest, GenerationRequest, ImageExtension
from serve_app.protocol.text import TextExtension
from serve_app.protocol.videos import VideoNvExt, VideoRequest
from tests.ingress.endpoints import CHAT, COMPLETIONS, GOOD, JSON, VIDEOS, error_of, healthy
from tests.ingress.images import EDITS, IMAGES

MODELS: dict[str, type[BaseModel]] = {
    CHAT: ChatRequest,
    COMPLETIONS: CompletionRequest,
    IMAGES: GenerationRequest,
    EDITS: EditRequest,
    VIDEOS: VideoRequest,
}
EXTENSIONS: dict[str, type[BaseModel]] = {CHAT: TextExtension, IMAGES: ImageExtension, VIDEOS: VideoNvExt}
FREE = {"tools", *(name for name in TextExtension.model_fields if TextExtension.model_fields[name].annotation is Any)}
"""Fields that take any value, for nothing is made of them."""
WRONG = [-1, 2.5, 10**30, 10**350, float("1e300"), "\0", [[]], [None], {"a": [1]}, [{"type": {}}]]
WORKS: list[tuple[str, Any]] = [
    ("seed", -1),
    ("top_k", -1),
    ("prompt", "\0"),
    ("negative_prompt", "\0"),
    ("user", "\0"),
    ("safety_identifier", "\0"),
    ("stop", "\0"),
    ("guidance_scale", 2.5),
    ("flow_shift", 2.5),
    ("true_cfg_scale", 2.5),
    ("stream_options", {"a": [1]}),
]
"""Of these values, those that are valid where they stand."""


@pytest.mark.parametrize("path", MODELS)
async def test_every_field_is_checked_and_named(client: httpx.AsyncClient, path: str) -> None:
    for field in MODELS[path].model_fields:
        for value in WRONG if field not in FREE else ():
            answer = await client.post(path, content=json.dumps({**GOOD[path], field: value}), headers=JSON)
            if answer.status_code != 200:
                error = error_of(answer, 404 if field == "model" and isinstance(value, str) else 400)
                assert (error["param"] or "").startswith(field), (field, value, error)
            else:
                assert (field, value) in WORKS
    await healthy(client)


@pytest.mark.parametrize("path", EXTENSIONS)
async def test_every_field_of_nvext_is_checked_and_named(client: httpx.AsyncClient, path: str) -> None:
    for field in EXTENSIONS[path].model_fields:
        for value in WRONG if field not in FREE else ():
            body = {**GOOD[path], "nvext": {**GOOD[path].get("nvext", {}), field: value}}
            answer = await client.post(path, content=json.dumps(body), headers=JSON)
            if answer.status_code != 200:
                assert (error_of(answer, 400)["param"] or "").startswith(f"nvext.{field}"), (field, value)
            else:
                assert (field, value) in WORKS
    unknown = {**GOOD[path], "nvext": {"num_inference_stepz": 4}}
    error = error_of(await client.post(path, json=unknown), 400)
    assert error["param"] == "nvext.num_inference_stepz"
    assert next(iter(EXTENSIONS[path].model_fields)) in error["message"], "the message lists what is allowed"


@pytest.mark.parametrize("path", MODELS)
async def test_null_is_as_good_as_left_out(client: httpx.AsyncClient, path: str) -> None:
    body = {**dict.fromkeys(MODELS[path].model_fields), **GOOD[path]}
    answer = await client.post(path, json=body, headers={"Prefer": "wait"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, '{"messages": [{"role": "user", "content": "a"}], "temperature": 1e400}', "temperature"),
        (CHAT, '{"messages": [{"role": "user", "content": "a"}], "n": 1e400}', "n"),
        (CHAT, '{"messages": [{"role": "user", "content": "a"}], "logit_bias": {"7": -1e999}}', "logit_bias"),
        (IMAGES, '{"prompt": "a", "nvext": {"guidance_scale": 1e400}}', "nvext.guidance_scale"),
        (VIDEOS, '{"prompt": "a", "seconds": 1e400}', "seconds"),
        (VIDEOS, '{"prompt": "a", "nvext": {"boundary_ratio": 1e400}}', "nvext.boundary_ratio"),
    ],
)
async def test_a_number_beyond_all_bounds_is_named(client: httpx.AsyncClient, path: str, body: str, param: str) -> None:
    assert error_of(await client.post(path, content=body, headers=JSON), 400)["param"] == param


async def test_a_message_says_what_is_allowed(client: httpx.AsyncClient) -> None:
    for path, field, value, allowed in (
        (IMAGES, "response_format", "png", ("'url'", "'b64_json'")),
        (IMAGES, "output_format", "gif", ("'png'", "'jpeg'", "'webp'")),
        (IMAGES, "quality", "best", ("'standard'", "'hd'", "'auto'")),
        (IMAGES, "size", "big", ("WIDTHxHEIGHT", "auto")),
        (IMAGES, "size", "9x9", ("64", "256")),
        (IMAGES, "n", 5, ("at most 4", "limits.n")),
        (IMAGES, "input_reference", 5, ("https", "data URL", "image_url")),
        (VIDEOS, "output_format", "avi", ("'mp4'",)),
        (VIDEOS, "seconds", 10**350, ("at most 20", "limits.seconds")),
        (CHAT, "max_completion_tokens", 10**6, ("at most 256", "limits.max_tokens")),
        (CHAT, "stop", 5, ("a string or a list of strings",)),
        (CHAT, "stop", ["a"] * 5, ("at most 4 items",)),
        (CHAT, "messages", [{"role": "robot", "content": "a"}], ("'system'", "'user'", "'assistant'")),
        (CHAT, "tool_choice", "required", ("'none'", "'auto'")),
        (COMPLETIONS, "best_of", 2, ("not be above n",)),
    ):
        message = error_of(await client.post(path, json={**GOOD[path], field: value}), 400)["message"]
        assert all(word in message for word in allowed), message
        assert "Input" not in message


async def test_what_a_caller_sent_is_not_repeated_at_length(client: httpx.AsyncClient) -> None:
    long = "x" * 100_000
    answers = [
        await client.post(CHAT, json={**GOOD[CHAT], "model": long}),
        await client.post(CHAT, json={**GOOD[CHAT], "nvext": {long: 1}}),
        await client.post(CHAT, json={**GOOD[CHAT], "stop": [long]}),
        await client.post(IMAGES, json={**GOOD[IMAGES], "size": long}),
        await client.post(IMAGES, files={long: (None, "a")}),
        await client.post(IMAGES, files=[(long[:200], (None, "a")), (long[:200], (None, "a"))]),
        await client.post(CHAT, content="{}", headers={"content-type": long[:30_000]}),
        await client.get(f"/{long[:30_000]}"),
        await client.get(f"/v1/models/{long[:30_000]}"),
    ]
    for answer in answers:
        assert 400 <= answer.status_code < 500
        assert len(answer.content) < 2000
