"""A good request for each endpoint, of which the tests beside this module spoil one thing; what an error promises."""

from __future__ import annotations

from typing import Any

import httpx

from tests.ingress.images import EDITS, IMAGES, data_url, png

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
VIDEOS = "/v1/videos"
JSON = {"content-type": "application/json"}
STEPS = {"num_inference_steps": 1}
GOOD: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1},
    COMPLETIONS: {"prompt": "hi", "max_tokens": 1},
    IMAGES: {"prompt": "a", "size": "64x64", "nvext": STEPS},
    EDITS: {"prompt": "a", "size": "64x64", "nvext": STEPS, "image": data_url(png())},
    VIDEOS: {"prompt": "a", "size": "64x64", "nvext": {"num_frames": 1, **STEPS}},
}
HELLO = GOOD[CHAT]


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error object, after checking that all that an error promises is there."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert int(answer.headers["openai-processing-ms"]) >= 0
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert "Traceback" not in answer.text
    return error


async def healthy(client: httpx.AsyncClient) -> None:
    assert (await client.post(CHAT, json=GOOD[CHAT])).status_code == 200


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
