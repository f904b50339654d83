"""The exact requests of open-webui and LibreChat: chat, image generation and editing, and what they read of the answer.

open-webui: backend/open_webui/routers/images.py and openai.py. LibreChat: api/app/clients/tools/structured/
OpenAIImageTools.js, and chat by OpenAI's client in LangChain.
"""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import httpx
from PIL import Image

from tests.ingress.conftest import Serving

CHAT = "/v1/chat/completions"
GENERATIONS = "/v1/images/generations"
EDITS = "/v1/images/edits"
KEY = {"Authorization": "Bearer any"}
TEXT, IMAGE = "demo/llada2-tiny", "demo/flux-tiny"


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "navy").save(buffer, "PNG")
    return buffer.getvalue()


def shown(answer: httpx.Response) -> Image.Image:
    """The first picture, as both clients show it: its base64, decoded."""
    assert answer.status_code == 200, answer.text
    made = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
    made.load()
    return made


async def chunks_of(client: httpx.AsyncClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await client.post(CHAT, json=body, headers=KEY)
    assert answer.status_code == 200, answer.text
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


# --- open-webui -----------------------------------------------------------------------------------------------------


async def test_open_webui_lists_models(client: httpx.AsyncClient) -> None:
    models = (await client.get("/v1/models", headers=KEY)).json()["data"]
    assert {TEXT, IMAGE} <= {model["id"] for model in models}


async def test_open_webui_chats(client: httpx.AsyncClient) -> None:
    messages = [{"role": "user", "content": "Hello!"}]
    chunks = await chunks_of(
        client,
        {
            "stream": True,
            "model": TEXT,
            "messages": messages,
            "stream_options": {"include_usage": True},
            "max_tokens": 32,
        },
    )
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
    assert 0 < chunks[-1]["usage"]["completion_tokens"] <= 32


async def test_open_webui_asks_for_a_title(client: httpx.AsyncClient) -> None:
    body = {
        "model": TEXT,
        "messages": [{"role": "user", "content": "### Task:\nGenerate a title for the chat."}],
        "stream": False,
        "max_completion_tokens": 32,
    }
    assert (await client.post(CHAT, json=body, headers=KEY)).json()["choices"][0]["message"]["content"]


async def test_open_webui_draws(client: httpx.AsyncClient) -> None:
    body = {"model": IMAGE, "prompt": "A fox", "n": 1, "size": "64x64", "response_format": "b64_json"}
    answer = await client.post(GENERATIONS, json=body, headers=KEY)
    assert (shown(answer).format, shown(answer).size) == ("PNG", (64, 64))


async def test_open_webui_edits_one_picture(client: httpx.AsyncClient) -> None:
    fields = {"model": IMAGE, "prompt": "A fox", "n": "1", "size": "64x64", "response_format": "b64_json"}
    files = {"image": ("4f2c.png", picture(), "image/png")}
    assert shown(await client.post(EDITS, data=fields, files=files, headers=KEY)).size == (64, 64)


async def test_open_webui_edits_a_list_of_one(client: httpx.AsyncClient) -> None:
    fields = {"model": IMAGE, "prompt": "A fox", "response_format": "b64_json"}
    files = [("image[]", ("4f2c.png", picture(), "image/png"))]
    assert shown(await client.post(EDITS, data=fields, files=files, headers=KEY)).size == (64, 64)


# --- LibreChat ------------------------------------------------------------------------------------------------------


async def test_librechat_chats(client: httpx.AsyncClient) -> None:
    chunks = await chunks_of(
        client,
        {
            "model": TEXT,
            "user": "66f0c2a1e4b0",
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": 32,
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": [{"type": "text", "text": "Hello!"}]},
            ],
        },
    )
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]][-1] in ("stop", "length")


async def test_librechat_draws(client: httpx.AsyncClient) -> None:
    body = {
        "model": IMAGE,
        "prompt": "A fox",
        "n": 1,
        "background": "auto",
        "output_format": "png",
        "quality": "auto",
        "size": "auto",
    }
    assert shown(await client.post(GENERATIONS, json=body, headers=KEY)).format == "PNG"


async def test_librechat_edits_where_the_default_is_base64(serving: Serving) -> None:
    fields = {"model": IMAGE, "prompt": "A fox", "quality": "auto", "size": "auto"}
    files = [("image[]", ("fox.png", picture(), "image/png"))]
    with serving(image={"defaults": {"response_format": "b64_json"}}) as running:
        async with running.client() as client:
            assert shown(await client.post(EDITS, data=fields, files=files, headers=KEY)).size == (64, 64)
