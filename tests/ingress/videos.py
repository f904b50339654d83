"""Small requests for videos, and what callers do with the answers; for the tests beside this module."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

SMALL = {"num_frames": 5, "fps": 4, "num_inference_steps": 1, "seed": 11}
BODY = {"prompt": "A curious raccoon", "size": "64x64", "nvext": SMALL}
FORM = {"prompt": "A curious raccoon", "size": "64x64", **{f"nvext[{name}]": str(each) for name, each in SMALL.items()}}
UNKNOWN = "video_" + "0" * 32


async def ended(client: httpx.AsyncClient, video: dict[str, Any], timeout_s: float = 60) -> dict[str, Any]:
    """The video when it is completed or failed, as a caller polls for it."""
    progress = 0
    async with asyncio.timeout(timeout_s):
        while video["status"] in ("queued", "in_progress"):
            assert video["progress"] >= progress
            progress = video["progress"]
            await asyncio.sleep(0.05)
            video = (await client.get(f"/v1/videos/{video['id']}")).json()
    return video


async def submit(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """A job by multipart, as OpenAI's client makes it."""
    form = {name: (None, str(value)) for name, value in {**FORM, **fields}.items()}
    answer = await client.post("/v1/videos", files=form)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def newest_id(client: httpx.AsyncClient) -> str:
    return (await client.get("/v1/videos", params={"limit": 1})).json()["first_id"]


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    events: list[tuple[str, dict[str, Any]]] = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if lines:
            events.append((lines["event"], json.loads(lines["data"])))
    return events
