"""Streams of images: previews, then the image, and what is left when the reader goes."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx

from tests.ingress.conftest import Running
from tests.ingress.images import EDITS, FOX, IMAGES, MODEL, data_url, fetched, opened, png


async def test_a_stream_shows_previews_then_the_image(client: httpx.AsyncClient) -> None:
    nvext = {"num_inference_steps": 6, "seed": 5}
    body = FOX | {"stream": True, "partial_images": 2, "nvext": nvext}
    answer = await client.post(IMAGES, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events: list[Any] = []
    for block in answer.text.strip().split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    *previews, done = events
    assert [event["partial_image_index"] for event in previews] == [0, 1]
    assert {event["type"] for event in previews} == {"image_generation.partial_image"}
    assert done["type"] == "image_generation.completed"
    assert done["usage"]["output_tokens"] == 16
    assert done["nvext"]["seeds"] == [5]
    pictures = [base64.b64decode(event["b64_json"]) for event in events]
    assert len(set(pictures)) == 3
    for event, data in zip(events, pictures, strict=True):
        assert opened(data).size == (64, 64)
        assert (event["size"], event["output_format"]) == ("64x64", "png")
        assert len(set(opened(data).convert("RGB").get_flattened_data())) > 1, "a preview is never blank"
    whole = await fetched(client, await client.post(IMAGES, json=FOX | {"nvext": nvext}))
    assert pictures[-1] == whole[0]


async def test_a_stream_gives_urls_where_asked(client: httpx.AsyncClient) -> None:
    answer = await client.post(IMAGES, json=FOX | {"stream": True, "response_format": "url"})
    event = json.loads(answer.text.split("data: ", 1)[1])
    assert "b64_json" not in event
    assert opened((await client.get(event["url"])).content).size == (64, 64)


async def test_a_stream_of_several_images(client: httpx.AsyncClient) -> None:
    answer = await client.post(IMAGES, json=FOX | {"stream": True, "n": 2, "response_format": "url"})
    events = [json.loads(block.split("data: ", 1)[1]) for block in answer.text.strip().split("\n\n")]
    assert [event["type"] for event in events] == ["image_generation.completed"] * 2
    assert [event["nvext"]["seeds"] for event in events] == [[5], [6]]
    streamed = [(await client.get(event["url"])).content for event in events]
    assert streamed == await fetched(client, await client.post(IMAGES, json=FOX | {"n": 2}))


async def test_an_edit_streams_events_of_its_own(client: httpx.AsyncClient) -> None:
    body = {"prompt": "a fox", "image": data_url(png()), "stream": True, "partial_images": 1}
    answer = await client.post(EDITS, json=body | {"nvext": {"num_inference_steps": 4}})
    names = [line.removeprefix("event: ") for line in answer.text.split("\n") if line.startswith("event: ")]
    assert names == ["image_edit.partial_image", "image_edit.completed"]


async def test_a_stream_that_is_dropped_frees_the_engine(running: Running) -> None:
    body = {
        "prompt": "a fox",
        "size": "256x256",
        "stream": True,
        "partial_images": 3,
        "nvext": {"num_inference_steps": 20},
    }
    async with running.client() as client:
        async with client.stream("POST", IMAGES, json=body) as answer:
            async for _ in answer.aiter_lines():
                break
        assert (await client.post(IMAGES, json=FOX)).status_code == 200
    await asyncio.sleep(0)
    assert running.services.models[MODEL].load.under_way == []
