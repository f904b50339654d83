"""The demo image model draws what was asked: through HTTP, with several seeds, judged by eyes of its own."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from serve_app.demo.training.judge import make_questions
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
SKETCH_STEPS = 4
IMAGES, EDITS = "/v1/images/generations", "/v1/images/edits"


async def draw(
    client: httpx.AsyncClient, prompt: str, seed: int = 0, model: str = "demo/flux-tiny", **nvext: Any
) -> Pixels:
    body: dict[str, Any] = {"model": model, "prompt": prompt, "size": "256x256", "response_format": "b64_json"}
    body["nvext"] = {"seed": seed, **nvext}
    answer = await client.post(IMAGES, json=body)
    assert answer.status_code == 200, answer.text
    return read_picture(base64.b64decode(answer.json()["data"][0]["b64_json"]))


async def sketch(client: httpx.AsyncClient, prompt: str, seed: int, **more: Any) -> Pixels:
    """In half the default steps, so that there is time for several seeds."""
    return await draw(client, prompt, seed, num_inference_steps=SKETCH_STEPS, **more)


async def edit(
    client: httpx.AsyncClient, prompt: str, source: Pixels, seed: int, mask: Image.Image | None = None, **nvext: Any
) -> Pixels:
    """By JSON; in as many steps as a sketch."""
    body: dict[str, Any] = {"prompt": prompt, "image": to_url(Image.fromarray(source)), "response_format": "b64_json"}
    body["nvext"] = {"seed": seed, "num_inference_steps": SKETCH_STEPS, **nvext}
    answer = await client.post(EDITS, json=body if mask is None else body | {"mask": to_url(mask)})
    assert answer.status_code == 200, answer.text
    return read_picture(base64.b64decode(answer.json()["data"][0]["b64_json"]))


@pytest.mark.parametrize(
    ("noun", "label", "color"),
    [("dog", "dog", "dark blue"), ("apple", "red apple", "yellow")],
)
async def test_a_thing_before_a_named_color(client: httpx.AsyncClient, noun: str, label: str, color: str) -> None:
    """The same thing with each seed, and each time elsewhere."""
    pictures = [await sketch(client, f"a {noun} on a {color} background", seed) for seed in range(3)]
    for picture in pictures:
        assert np.abs(find_background(picture) - COLORS[color]).max() < 40
        verdict = name_picture(picture)
        assert (verdict.thing, verdict.behind) == (label, color)
    centres = [find_centre(picture) for picture in pictures]
    assert max(abs(x - other_x) + abs(y - other_y) for x, y in centres for other_x, other_y in centres) > 0.02
    assert max(measure_psnr(picture, other) for picture, other in pairwise(pictures)) < 25


async def test_as_many_things_as_were_asked_for(client: httpx.AsyncClient) -> None:
    for count, words in ((2, "two red apples"), (3, "three red apples")):
        pictures = [await sketch(client, f"{words} on a white background", seed) for seed in range(3)]
        assert [len(find_things(picture)) for picture in pictures] == [count] * 3, words


async def test_guidance_guides(client: httpx.AsyncClient) -> None:
    """In two steps a picture is hardly made out: with guidance, the judge is surer of the things that were asked for.

    The card has the figures of 50 prompts: on average its logarithm rises by 0.34.
    """
    questions = make_questions(6)
    sure: dict[float, list[float]] = {1.0: [], 2.0: []}
    for scale, rates in sure.items():
        for seed, question in enumerate(questions):
            picture = await draw(client, question.prompt, seed, num_inference_steps=2, guidance_scale=scale)
            rates.append(rate_thing(picture, question.thing.label))
    assert np.mean(sure[2.0]) > np.mean(sure[1.0]) + 0.4


async def test_a_negative_prompt_avoids(client: httpx.AsyncClient) -> None:
    """Of two things that were asked for, the judge hardly sees the one that the negative prompt names."""
    prompt = "a frog and a pizza on a white background"
    for seed in range(3):
        plain = await sketch(client, prompt, seed)
        without = await sketch(client, prompt, seed, negative_prompt="a pizza")
        assert rate_thing(without, "pizza") + 1 < rate_thing(plain, "pizza")
        assert name_picture(without).thing == "frog"


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
    meadow = await sketch(client, "a meadow", seed=4)
    mask = Image.new("L", (256, 256), 0)
    mask.paste(255, (48, 64, 208, 240))
    kept = np.asarray(mask) == 0
    for seed in range(3):
        edited = await edit(client, "a pizza in a meadow", meadow, seed, mask)
        assert np.array_equal(edited[kept], meadow[kept])
        assert name_picture(edited).thing == "pizza"


async def test_image_to_image_keeps_the_scene_and_changes_the_thing(client: httpx.AsyncClient) -> None:
    """Each edit is nearer to its source than what the same prompt and seed draw afresh; the weaker, the nearer."""
    source = await sketch(client, "a dog in the forest at night", seed=5)
    assert name_picture(source).thing == "dog"
    for seed in range(3):
        fresh = await sketch(client, "a lock in the forest at night", seed)
        edited = await edit(client, "a lock in the forest at night", source, seed)
        weak = await edit(client, "a lock in the forest at night", source, seed, strength=0.25)
        verdict = name_picture(edited)
        assert (verdict.thing, verdict.behind, verdict.time) == ("locked", "forest", "night")
        assert measure_psnr(fresh, source) + 1 < measure_psnr(edited, source) < measure_psnr(weak, source) - 1


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
        for seed in range(2):
            plain = await sketch(client, "a cat on a blue background", seed)
            blocks = await sketch(client, "a cat on a blue background", seed, model="pixel-art")
            assert measure_blocks(blocks) > measure_blocks(plain) + 3
            assert name_picture(blocks).thing == "cat"


def to_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
