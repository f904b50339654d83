"""/v1/images/generations, /v1/images/edits and the media they leave, on the demo checkpoint."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from serve_app.ingress.services import ModelState, Services
from serve_app.tasks import ImageResult, ImageTask
from tests.ingress.conftest import Running, Serving, client_of, with_client

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


async def test_an_image_by_its_url_elsewhere(serving: Serving, client: httpx.AsyncClient) -> None:
    """The picture that another server made, here one at loopback, which has to be allowed by name."""
    elsewhere = (await client.post(IMAGES, json=FOX)).json()["data"][0]["url"]
    picture = data_url((await client.get(elsewhere)).content)
    body = {"prompt": "a wolf", "nvext": FOX["nvext"]}
    with serving(fetch={"allow_http": True, "allow_hosts": ["127.0.0.1"]}) as running:
        async with running.client() as other:
            by_url = await other.post(IMAGES, json=body | {"input_reference": elsewhere})
            by_data = await other.post(IMAGES, json=body | {"input_reference": {"image_url": picture}})
            assert await fetched(other, by_url) == await fetched(other, by_data)
            missing = await other.post(EDITS, json=body | {"image": elsewhere + "x"})
            error = missing.json()["error"]
            assert (missing.status_code, error["param"]) == (400, "image")
            assert "404" in error["message"]
    refused = await client.post(IMAGES, json=body | {"input_reference": elsewhere})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsafe_url")


async def test_an_edit_by_multipart(client: httpx.AsyncClient) -> None:
    fields = {"prompt": "a fox", "nvext[num_inference_steps]": "2", "nvext[seed]": "5", "n": "1"}
    answer = await client.post(EDITS, data=fields, files={"image": ("in.png", png(72, 64), "image/png")})
    assert answer.json()["size"] == "72x64"
    [edited] = await fetched(client, answer)
    assert opened(edited).size == (72, 64)
    other = await client.post(EDITS, data=fields, files={"image[]": ("in.png", png(72, 64, (0, 0, 250)), "image/png")})
    assert await fetched(client, other) != [edited]
    assert answer.json()["usage"]["input_tokens_details"]["image_tokens"] == 20


async def test_an_edit_by_json_and_input_reference(client: httpx.AsyncClient) -> None:
    nvext = {"num_inference_steps": 2, "seed": 5}
    image = data_url(png())
    body = {"prompt": "a fox", "nvext": nvext}
    answers = [
        await client.post(EDITS, json=body | {"image": image}),
        await client.post(EDITS, json=body | {"image": [{"image_url": image}]}),
        await client.post(IMAGES, json=body | {"input_reference": image}),
        await client.post(IMAGES, json=body | {"input_reference": {"image_url": image}}),
    ]
    pictures = [await fetched(client, answer) for answer in answers]
    assert pictures[0] == pictures[1] == pictures[2] == pictures[3]


async def test_a_mask_keeps_what_is_opaque(client: httpx.AsyncClient) -> None:
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (32, 0, 64, 64))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    files = {"image": ("in.png", png(), "image/png"), "mask": ("mask.png", buffer.getvalue(), "image/png")}
    fields = {"prompt": "a fox", "nvext[num_inference_steps]": "2"}
    [edited] = await fetched(client, await client.post(EDITS, data=fields, files=files))
    picture = opened(edited).convert("RGB")
    assert picture.getpixel((8, 8)) == (200, 50, 50)
    assert len(set(picture.crop((40, 0, 64, 64)).get_flattened_data())) > 1


@pytest.mark.parametrize(
    ("files", "param", "status"),
    [
        ({}, "image", 400),
        ({"image": b"not an image"}, "image", 400),
        ({"image": b""}, "image", 400),
        ({"image": png()[:60]}, "image", 400),
        ({"image": b"GIF89a" + b"\x00" * 64}, "image", 400),
        ({"image": png(), "mask": png(32, 32)}, "mask", 400),
        ({"image": png(), "mask": b"<svg/>"}, "mask", 400),
        ({"image": png() + b"\x00" * 1_100_000}, "image", 413),
    ],
)
async def test_bad_files_name_their_field(
    client: httpx.AsyncClient, files: dict[str, bytes], param: str, status: int
) -> None:
    fields = {"prompt": (None, "a fox")}
    parts: dict[str, Any] = fields | {name: (f"{name}.png", data, "image/png") for name, data in files.items()}
    answer = await client.post(EDITS, files=parts)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.png",
        "https://169.254.169.254/latest",
        "file:///etc/passwd",
        "data:text/html,hi",
        "ftp://x/y",
        "",
    ],
)
async def test_unsafe_references_are_refused(client: httpx.AsyncClient, url: str) -> None:
    answer = await client.post(IMAGES, json=FOX | {"input_reference": url})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith("input_reference")


async def test_several_images_are_one_too_many(client: httpx.AsyncClient) -> None:
    files = [("image[]", ("a.png", png(), "image/png")), ("image[]", ("b.png", png(), "image/png"))]
    answer = await client.post(EDITS, data={"prompt": "a fox"}, files=files)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", "image")
    assert error["message"] == f"'image' holds 2 images; the model '{MODEL}' takes 1."


class TakesTwo:
    """A model that edits two images at a time; what it is asked to draw is drawn from the prompt alone."""

    def __init__(self, image: Any) -> None:
        self._image = image
        self.taken: list[tuple[bytes, ...]] = []

    async def describe(self) -> Any:
        return replace(await self._image.describe(), input_images=2)

    async def generate(self, task: ImageTask) -> ImageResult:
        self.taken.append(task.input_images)
        return await self._image.generate(replace(task, input_images=()))


async def test_as_many_images_as_the_model_takes_come_in_their_order(serving: Serving, services: Services) -> None:
    two = TakesTwo(client_of(services, "image"))
    red, blue = png(), png(64, 96, colour=(30, 30, 200))
    files = [("image[]", ("a.png", red, "image/png")), ("image[]", ("b.png", blue, "image/png"))]
    with serving(lambda own: with_client(own, "image", two)) as running:
        async with running.client() as client:
            form = {"prompt": "a fox", "nvext[num_inference_steps]": "1"}
            by_form = await client.post(EDITS, data=form, files=files)
            assert by_form.status_code == 200, by_form.text
            assert by_form.json()["size"] == "64x64"
            assert by_form.json()["usage"]["input_tokens_details"]["image_tokens"] == 2 * 16
            images = [{"image_url": data_url(blue)}, {"image_url": data_url(red)}]
            body = {"prompt": "a fox", "images": images, "nvext": {"num_inference_steps": 1}}
            by_url = await client.post(EDITS, json=body)
            assert by_url.status_code == 200, by_url.text
            assert by_url.json()["size"] == "64x96"
            assert two.taken == [(red, blue), (blue, red)]
            # of three none is fetched, where no more than two are taken
            error = (await client.post(EDITS, json=body | {"images": [{"image_url": "https://x.test/a"}] * 3})).json()
            assert error["error"]["message"] == f"'images' holds 3 images; the model '{MODEL}' takes 2."


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


async def test_a_model_that_cannot_edit_says_so(serving: Serving) -> None:
    class DrawsOnly:
        def __init__(self, image: Any) -> None:
            self.generate, self.stream, self._image = image.generate, image.stream, image

        async def describe(self) -> Any:
            return replace(await self._image.describe(), capabilities=frozenset({"previews"}))

    def cannot_edit(services: Any) -> Any:
        return with_client(services, "image", DrawsOnly(client_of(services, "image")))

    with serving(cannot_edit) as running:
        async with running.client() as client:
            answer = await client.post(IMAGES, json=FOX | {"input_reference": data_url(png())})
            assert answer.status_code == 400
            error = answer.json()["error"]
            assert (error["code"], error["param"]) == ("unsupported_parameter", "input_reference")
            assert (await client.post(IMAGES, json=FOX)).status_code == 200


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


# --- /v1/media ------------------------------------------------------------------------------------------------------


async def made(client: httpx.AsyncClient) -> tuple[str, bytes]:
    url = (await client.post(IMAGES, json=FOX)).json()["data"][0]["url"]
    return url, (await client.get(url)).content


async def test_media_has_safe_headers_and_ranges(client: httpx.AsyncClient) -> None:
    url, whole = await made(client)
    answer = await client.get(url)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"].startswith('inline; filename="img_')
    assert int(answer.headers["content-length"]) == len(whole)
    head = await client.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole)))
    for asked, expected in (("bytes=0-9", whole[:10]), ("bytes=-5", whole[-5:]), ("bytes=10-", whole[10:])):
        part = await client.get(url, headers={"range": asked})
        assert (part.status_code, part.content) == (206, expected)
        assert part.headers["content-range"].endswith(f"/{len(whole)}")
    beyond = await client.get(url, headers={"range": f"bytes={len(whole)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole)}")
    assert beyond.json()["error"]["param"] == "Range"


async def test_media_is_validated_by_its_etag(client: httpx.AsyncClient) -> None:
    url, whole = await made(client)
    head = (await client.head(url)).headers
    etag = head["etag"]
    assert (await client.get(url, headers={"if-none-match": etag})).status_code == 304
    for fresh in (etag, head["last-modified"]):
        answer = await client.get(url, headers={"range": "bytes=0-4", "if-range": fresh})
        assert (answer.status_code, answer.content) == (206, whole[:5])
    for stale in ('"other"', f"W/{etag}"):
        answer = await client.get(url, headers={"range": "bytes=0-4", "if-range": stale})
        assert (answer.status_code, answer.content) == (200, whole)


@pytest.mark.parametrize(
    "key",
    [
        "public/none.png",
        "%2e%2e/jobs/public/x/request.json",
        "..%2f..%2fetc/passwd",
        "media/public/none.png",
        "media/../jobs/public/x/request.json",
        "media/%2e%2e/%2e%2e/etc/passwd",
        "media/..%2f..%2fetc/passwd",
        "jobs/public/x/request.json",
        "ledger/day=2026-01-01/a.parquet",
        "idempotency/public/x",
        "dispatchers/x",
        "media/",
        "media",
        "media//x",
        "/etc/passwd",
        "media/a%00b",
        "media/.hidden",
        "media/" + "x/" * 600 + "y",
        "media/%0d%0aSet-Cookie:a=b",
    ],
)
async def test_nothing_but_media_is_reachable(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.get(f"/v1/media/{key}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] in ("media_not_found", "not_found")
    assert "set-cookie" not in answer.headers


async def test_with_keys_on_urls_are_signed_and_callers_parted(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEYS", "ann:key-of-ann,bob:key-of-bob")
    monkeypatch.setenv("DIFFUSION_SERVE_SIGNING_KEY", "s" * 32)
    ann, bob = ({"authorization": f"Bearer key-of-{name}"} for name in ("ann", "bob"))
    with serving(access={"keys_env": "TEST_KEYS"}) as running:
        async with running.client() as client:
            assert (await client.post(IMAGES, json=FOX)).status_code == 401
            url = (await client.post(IMAGES, json=FOX, headers=ann)).json()["data"][0]["url"]
            assert "signature=" in url
            signed = await client.get(url)
            assert signed.status_code == 200
            plain = url.split("?")[0]
            assert (await client.get(plain)).status_code == 401
            assert (await client.get(plain, headers=ann)).status_code == 200
            assert (await client.get(plain, headers=bob)).status_code == 403
            assert (await client.get(f"{url}0")).status_code == 403
            assert (await client.get(url.replace("expires=", "expires=9"))).status_code == 403
            assert (await client.get(f"{plain}?signature=x")).status_code == 403


# --- /v1/models, /health, /ready ------------------------------------------------------------------------------------


async def test_models_are_listed_and_retrieved(client: httpx.AsyncClient, running: Running) -> None:
    listed = (await client.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["demo/llada2-tiny", MODEL, "demo/wan-tiny"]
    for path in (f"/v1/models/{MODEL}", "/v1/models/demo%2Fflux-tiny"):
        one = (await client.get(path)).json()
        assert (one["id"], one["object"]) == (MODEL, "model")
    missing = await client.get("/v1/models/nope/nope")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none") as official:
        assert (await official.models.retrieve(MODEL)).id == MODEL


async def test_health_and_readiness(client: httpx.AsyncClient, serving: Serving) -> None:
    assert (await client.get("/health")).json() == {"status": "ok", "instance": "tests"}
    ready = await client.get("/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")

    async def half() -> Any:
        return {"text": ModelState("ready", 1), "image": ModelState("starting", 0)}

    def starting(services: Any) -> Any:
        services.readiness = half
        return services

    def draining(services: Any) -> Any:
        services.gate.shut = True
        return services

    for change, said in ((starting, "image"), (draining, "draining")):
        with serving(change) as running:
            async with running.client() as other:
                answer = await other.get("/ready")
                assert answer.status_code == 503
                assert said in answer.json()["error"]["message"]
                assert int(answer.headers["retry-after"]) >= 1
                if change is starting:  # who waits sees what it waits for
                    states = {name: row["state"] for name, row in answer.json()["models"].items()}
                    assert states == {"text": "ready", "image": "starting", "video": "ready"}
                assert (await other.get("/health")).status_code == 200


async def test_a_kind_that_is_off_serves_no_model(serving: Serving) -> None:
    with serving(image=None) as running:
        async with running.client() as client:
            answer = await client.post(IMAGES, json=FOX | {"model": MODEL})
            assert answer.status_code == 404
            assert "none" in answer.json()["error"]["message"]
            assert len((await client.get("/v1/models")).json()["data"]) == 2
