"""Edits of several images on SGLang over HTTP: a small checkpoint of FLUX.2 klein's layout."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from benchmarks.gpu.app import App
from serve_app.engines.sglang.diffusion import INPUT_IMAGES
from tests.gpu.conftest import serving

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]
MOST = INPUT_IMAGES["Flux2KleinPipelineConfig"]
SIZE = (128, 96)
PHOTO = (640, 480)
"""SGLang prepares images of 256x256 pixels and more on the GPU, smaller ones on the CPU."""
FIELDS = {
    "prompt": "the boat of the first image in the sea of the second",
    "size": "128x96",
    "response_format": "b64_json",
    "nvext[num_inference_steps]": "4",
    "nvext[seed]": "3",
}


@pytest.fixture(scope="module")
def app(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    image = {"model": str(checkpoints["flux2-klein"]), "served_name": "klein", "warm_up_sizes": [list(SIZE)]}
    models = {"text": None, "image": image, "video": None}
    with serving(tmp_path_factory.mktemp("edit"), models, wait_s=600) as started:
        yield started


@pytest.fixture(scope="module")
def client(app: App) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=app.base, timeout=300) as made:
        yield made


def png(color: str, size: tuple[int, int]) -> bytes:
    """White, with one half in a color."""
    picture = Image.new("RGB", size, "white")
    picture.paste(color, (0, 0, size[0] // 2, size[1]))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def edit(client: httpx.Client, *colors: str, size: tuple[int, int] = SIZE) -> httpx.Response:
    files = [("image[]", (f"{index}.png", png(color, size), "image/png")) for index, color in enumerate(colors)]
    return client.post("/v1/images/edits", data=FIELDS, files=files)


def picture(answer: httpx.Response) -> Any:
    """The pixels of the one PNG in an answer, of the size asked for and not of one color."""
    assert answer.status_code == 200, answer.text
    read = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
    assert (read.format, read.size) == ("PNG", SIZE)
    pixels = np.asarray(read.convert("RGB"))
    assert pixels.min() < pixels.max()
    return pixels


@pytest.mark.parametrize("size", [SIZE, PHOTO], ids=["small", "photo"])
def test_a_second_image_changes_the_picture(client: httpx.Client, size: tuple[int, int]) -> None:
    drawn = picture(edit(client, "navy", "olive", size=size))
    assert np.array_equal(picture(edit(client, "navy", "olive", size=size)), drawn)
    for others in (("navy", "maroon"), ("navy",), ("black", "olive")):
        assert not np.array_equal(picture(edit(client, *others, size=size)), drawn)


def test_as_many_images_as_the_model_takes(client: httpx.Client) -> None:
    picture(edit(client, *("navy", "olive", "maroon", "black")[:MOST]))


def test_more_images_are_refused_by_name(client: httpx.Client) -> None:
    answer = edit(client, *["navy"] * (MOST + 1))
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == "image", error
    assert f"takes {MOST}." in error["message"]


def test_it_draws_without_an_image_too(client: httpx.Client) -> None:
    nvext = {"num_inference_steps": 4, "seed": 3}
    body = {"prompt": FIELDS["prompt"], "size": "128x96", "response_format": "b64_json", "nvext": nvext}
    drawn = picture(client.post("/v1/images/generations", json=body))
    assert not np.array_equal(picture(edit(client, "navy", "olive")), drawn)
