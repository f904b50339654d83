"""/v1/images/generations, on the demo checkpoint."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import openai
import pytest

from tests.ingress.conftest import Running, Serving
from tests.ingress.images import FOX, IMAGES, MODEL, fetched, opened, png


async def test_an_image_by_url(client: httpx.AsyncClient, running: Running) -> None:
    answer = await client.post(IMAGES, json=FOX | {"model": MODEL, "size": "80x72"})
    body = answer.json()
    assert set(body) == {"created", "data", "size", "quality", "background", "output_format", "usage", "nvext"}
    assert (body["size"], body["output_format"]) == ("80x72", "png")
    assert body["nvext"]["seeds"] == [5]
    assert body["nvext"]["num_inference_steps"] == 2
    assert body["nvext"]["inference_time_s"] > 0
    assert body["usage"]["output_tokens"] == 25
    assert body["usage"]["input_tokens"] == body["usage"]["input_tokens_details"]["text_tokens"] > 0
    assert body["data"][0]["url"].startswith(f"{running.url}/v1/media/public/")
    [data] = await fetched(client, answer)
    assert opened(data).size == (80, 72)
    assert opened(data).format == "PNG"
    timing = answer.headers["server-timing"]
    assert all(part in timing for part in ("queue;dur=", "engine;dur=", "encode;dur=", "storage;dur="))


async def test_the_same_seed_gives_the_same_bytes_and_image_i_has_seed_plus_i(client: httpx.AsyncClient) -> None:
    one = await fetched(client, await client.post(IMAGES, json=FOX))
    two = await client.post(IMAGES, json=FOX | {"n": 2, "response_format": "url"})
    assert two.json()["nvext"]["seeds"] == [5, 6]
    pair = await fetched(client, two)
    assert pair[0] == one[0] != pair[1]
    next_seed = FOX | {"nvext": {"num_inference_steps": 2, "seed": 6}}
    assert await fetched(client, await client.post(IMAGES, json=next_seed)) == [pair[1]]


async def test_a_seed_is_drawn_and_told(client: httpx.AsyncClient) -> None:
    body = {"prompt": "a fox", "size": "64x64", "nvext": {"num_inference_steps": 1}}
    answer = await client.post(IMAGES, json=body)
    seed = answer.json()["nvext"]["seeds"][0]
    again = body | {"nvext": {"num_inference_steps": 1, "seed": seed}}
    assert await fetched(client, await client.post(IMAGES, json=again)) == await fetched(client, answer)


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
async def test_formats_as_base64(client: httpx.AsyncClient, output_format: str) -> None:
    fields = {"output_format": output_format, "output_compression": 60, "response_format": "b64_json"}
    body = (await client.post(IMAGES, json=FOX | fields)).json()
    image = opened(base64.b64decode(body["data"][0]["b64_json"]))
    assert (image.format, image.size) == (output_format.upper(), (64, 64))
    assert "url" not in body["data"][0]


async def test_what_openai_defines_and_means_nothing_here_is_taken(client: httpx.AsyncClient) -> None:
    fields = {"quality": "hd", "style": "vivid", "background": "auto", "moderation": "low", "user": "u", "new": 1}
    answer = await client.post(IMAGES, json=FOX | fields | {"size": "auto"})
    assert answer.status_code == 200
    assert answer.json()["size"] == "64x64"


async def test_a_negative_prompt_changes_the_picture(client: httpx.AsyncClient) -> None:
    plain = await fetched(client, await client.post(IMAGES, json=FOX))
    nvext = FOX["nvext"] | {"negative_prompt": "rain", "guidance_scale": 4.0, "annotations": ["x"]}
    assert await fetched(client, await client.post(IMAGES, json=FOX | {"nvext": nvext})) != plain


async def test_a_png_says_how_it_was_made(client: httpx.AsyncClient) -> None:
    [data] = await fetched(client, await client.post(IMAGES, json=FOX))
    facts: dict[Any, Any] = opened(data).info
    assert (facts["model"], facts["prompt"], facts["seed"]) == (MODEL, "a fox", "5")
    [jpeg] = await fetched(
        client, await client.post(IMAGES, json=FOX | {"output_format": "jpeg", "response_format": "url"})
    )
    assert b"a fox" in opened(jpeg).info["exif"]


async def test_compression_is_the_quality(client: httpx.AsyncClient) -> None:
    sizes: list[int] = []
    for compression in (5, 50, 100):
        fields = {
            "output_format": "jpeg",
            "output_compression": compression,
            "size": "256x256",
            "response_format": "url",
        }
        [data] = await fetched(client, await client.post(IMAGES, json=FOX | fields))
        sizes.append(len(data))
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("nvext", "said"),
    [
        ({"true_cfg_scale": 2.0}, None),
        ({"flow_shift": 3.0}, "'nvext.flow_shift'"),
        ({"true_cfg_scale": -1}, "0"),
        ({"strength": 0}, "greater than 0"),
    ],
)
async def test_parameters_of_a_family(client: httpx.AsyncClient, nvext: dict[str, Any], said: str | None) -> None:
    body = FOX | {"nvext": {"num_inference_steps": 1, "negative_prompt": "rain", "seed": 5, **nvext}}
    answer = await client.post(IMAGES, json=body)
    if said is None:
        plain = FOX | {"nvext": {"num_inference_steps": 1, "negative_prompt": "rain", "seed": 5}}
        assert await fetched(client, answer) != await fetched(client, await client.post(IMAGES, json=plain))
    else:
        assert answer.status_code == 400
        assert said in answer.json()["error"]["message"]


async def test_steps_that_neither_caller_nor_settings_say_are_the_family_s(serving: Serving) -> None:
    open_ones = {"num_inference_steps": None, "guidance_scale": None}
    with serving(image={"defaults": {"width": 64, "height": 64} | open_ones}) as running:
        async with running.client() as client:
            told = (await client.post(IMAGES, json={"prompt": "a fox"})).json()["nvext"]
            # FLUX.1 takes 28, and limits.steps is 20 here
            assert (told["num_inference_steps"], told["guidance_scale"]) == (20, 3.5)


async def test_the_official_client(running: Running) -> None:
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        made = await client.images.generate(
            model=MODEL, prompt="a fox", size="256x256", response_format="b64_json", extra_body={"nvext": FOX["nvext"]}
        )
        assert made.data is not None
        assert opened(base64.b64decode(made.data[0].b64_json or "")).size == (256, 256)
        edited = await client.images.edit(
            model=MODEL,
            image=("in.png", png(), "image/png"),
            prompt="a fox",
            extra_body={"nvext": {"num_inference_steps": 2, "seed": 5}},
        )
        assert edited.data is not None
        assert edited.data[0].url
        several = await client.images.edit(
            model=MODEL,
            image=[("in.png", png(), "image/png")],
            mask=("m.png", png(mode="RGBA", colour=(0, 0, 0, 0))),
            prompt="a fox",
        )
        assert several.data is not None
        stream = await client.images.generate(
            model=MODEL, prompt="a fox", stream=True, partial_images=1, extra_body={"nvext": FOX["nvext"]}
        )
        types = [event.type async for event in stream]
        assert types == ["image_generation.partial_image", "image_generation.completed"]
