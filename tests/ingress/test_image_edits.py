"""/v1/images/edits and the images that a picture is made from: files, URLs and masks, on the demo checkpoint."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import httpx
import pytest
from PIL import Image

from serve_app.ingress.services import Services
from serve_app.tasks import ImageResult, ImageTask
from tests.ingress.conftest import Serving, client_of, with_client
from tests.ingress.images import EDITS, FOX, IMAGES, MODEL, data_url, fetched, opened, png

# --- what is taken --------------------------------------------------------------------------------------------------


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


# --- refusals -------------------------------------------------------------------------------------------------------


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
