"""Small requests for images, and the images that are sent and fetched; for the tests beside this module."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
from PIL import Image

IMAGES = "/v1/images/generations"
EDITS = "/v1/images/edits"
MODEL = "demo/flux-tiny"
FOX: dict[str, Any] = {"prompt": "a fox", "size": "64x64", "nvext": {"num_inference_steps": 2, "seed": 5}}


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def png(width: int = 64, height: int = 64, colour: Any = (200, 50, 50), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


async def fetched(client: httpx.AsyncClient, answer: httpx.Response) -> list[bytes]:
    assert answer.status_code == 200, answer.text
    return [(await client.get(one["url"])).content for one in answer.json()["data"]]
