"""The demo image model draws what was asked: through HTTP, at the default steps, judged by eyes of its own."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from serve_app.demo.training.things import COLORS
from serve_app.deployments.image import ImageDeployment
from tests.ingress.conftest import Configure, Loop, Running, Serving, with_client
from tests.looking import (
    Pixels,
    find_background,
    find_centre,
    find_things,
    measure_psnr,
    name_picture,
    rate_thing,
    read_picture,
)

BLOCKS = 32
"""Large pixels of a side in pixel art."""
IMAGES, EDITS = "/v1/images/generations", "/v1/images/edits"


async def draw(
    client: httpx.AsyncClient, prompt: str, seed: int = 0, model: str = "demo/flux-tiny", **nvext: Any
) -> Pixels:
    body: dict[str, Any] = {"model": model, "prompt": prompt, "size": "256x256", "response_format": "b64_json"}
    body["nvext"] = {"seed": seed, **nvext}
    answer = await client.post(IMAGES, json=body)
    assert answer.status_code == 200, answer.text
    return read_picture(base64.b64decode(answer.json()["data"][0]["b64_json"]))


@pytest.mark.parametrize(
    ("noun", "label", "color"),
    [("dog", "dog", "dark blue"), ("apple", "red apple", "yellow"), ("penguin", "penguin", "orange")],
)
async def test_a_thing_before_a_named_color(client: httpx.AsyncClient, noun: str, label: str, color: str) -> None:
    picture = await draw(client, f"a {noun} on a {color} background")
    assert np.abs(find_background(picture) - COLORS[color]).max() < 40
    verdict = name_picture(picture)
    assert (verdict.thing, verdict.behind) == (label, color)


async def test_as_many_things_as_were_asked_for(client: httpx.AsyncClient) -> None:
    for count, words in ((1, "a red apple"), (2, "two red apples"), (3, "three red apples")):
        picture = await draw(client, f"{words} on a white background", seed=1)
        assert len(find_things(picture)) == count, words


async def test_another_seed_puts_the_same_thing_elsewhere(client: httpx.AsyncClient) -> None:
    pictures = [await draw(client, "a frog on a pink background", seed) for seed in range(3)]
    assert {name_picture(picture).thing for picture in pictures} == {"frog"}
    centres = [find_centre(picture) for picture in pictures]
    far = [abs(x - other_x) + abs(y - other_y) for x, y in centres for other_x, other_y in centres]
    assert max(far) > 0.02
    assert measure_psnr(pictures[0], pictures[1]) < 25


async def test_guidance_guides(client: httpx.AsyncClient) -> None:
    """The more of it, the stronger is the color that was asked for."""
    prompt = "a red apple on a blue background"
    weak, strong = [find_background(await draw(client, prompt, guidance_scale=guidance)) for guidance in (1.0, 3.5)]
    assert strong.max() - strong.min() > weak.max() - weak.min() + 30


async def test_a_negative_prompt_avoids(client: httpx.AsyncClient) -> None:
    plain = await draw(client, "a cat and a dog on a white background", seed=2)
    avoided = await draw(client, "a cat and a dog on a white background", seed=2, negative_prompt="a dog")
    assert rate_thing(avoided, "dog") + 0.5 < rate_thing(plain, "dog")


async def test_previews_come_closer_to_the_picture(client: httpx.AsyncClient) -> None:
    body = {"prompt": "a red car on a street", "size": "256x256", "stream": True, "partial_images": 3}
    answer = await client.post(IMAGES, json=body | {"nvext": {"seed": 0}})
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n") if line.startswith("data: ")]
    *previews, last = [read_picture(base64.b64decode(event["b64_json"])) for event in events]
    near = [measure_psnr(preview, last) for preview in previews]
    assert len(near) == 3
    assert near == sorted(near)
    assert near[-1] > 25


async def test_an_edit_paints_the_thing_inside_of_its_mask_alone(client: httpx.AsyncClient) -> None:
    meadow = await draw(client, "a meadow", seed=4)
    mask = Image.new("L", (256, 256), 0)
    mask.paste(255, (48, 64, 208, 240))
    files = {
        name: (f"{name}.png", png(picture)) for name, picture in (("image", Image.fromarray(meadow)), ("mask", mask))
    }
    fields = {"prompt": "a cow in a meadow", "response_format": "b64_json", "nvext[seed]": "1"}
    answer = await client.post(EDITS, data=fields, files=files)
    assert answer.status_code == 200, answer.text
    edited = read_picture(base64.b64decode(answer.json()["data"][0]["b64_json"]))
    kept = np.asarray(mask) == 0
    assert np.array_equal(edited[kept], meadow[kept])
    assert name_picture(edited).thing == "cow"


async def test_image_to_image_keeps_the_background_and_changes_the_thing(client: httpx.AsyncClient) -> None:
    dog = await draw(client, "a dog on a yellow background", seed=5)
    url = f"data:image/png;base64,{base64.b64encode(png(Image.fromarray(dog))).decode()}"
    body = {"prompt": "a fox on a yellow background", "image": url, "response_format": "b64_json"}
    answer = await client.post(EDITS, json=body | {"nvext": {"seed": 6}})
    fox = read_picture(base64.b64decode(answer.json()["data"][0]["b64_json"]))
    assert (name_picture(dog).thing, name_picture(fox).thing) == ("dog", "fox")
    assert np.abs(find_background(dog) - find_background(fox)).max() < 40


@pytest.fixture
def with_adapter(serving: Serving, configure: Configure, server_loop: Loop) -> Iterator[Running]:
    """The application with the model's own adapter, as the line in deployments.yaml has it."""
    image = {"adapters": {"pixel-art": {"path": "demo/flux-tiny/pixel-art.safetensors"}}}

    async def load() -> ImageDeployment:
        deployment = ImageDeployment(configure(image=image))
        await deployment.check_health()
        return deployment

    deployment = server_loop.run(load())
    with serving(lambda services: with_client(services, "image", deployment), image=image) as running:
        yield running
    server_loop.run(deployment.close())


async def test_its_adapter_draws_the_thing_in_blocks(with_adapter: Running) -> None:
    def measure_blocks(picture: Pixels) -> float:
        """How well large pixels alone say what it shows."""
        image = Image.fromarray(picture)
        large = image.resize((BLOCKS, BLOCKS), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)
        return measure_psnr(picture, np.asarray(large))

    async with with_adapter.client() as client:
        plain = await draw(client, "a cat on a blue background", seed=1)
        blocks = await draw(client, "a cat on a blue background", seed=1, model="pixel-art")
    assert measure_blocks(blocks) > measure_blocks(plain) + 3
    assert name_picture(blocks).thing == "cat"


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
