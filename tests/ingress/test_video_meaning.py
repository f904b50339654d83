"""The demo video model films what was asked: through HTTP, with several seeds, judged by eyes of its own."""

from __future__ import annotations

import base64
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.looking import Pixels, find_centre, measure_psnr, name_picture, read_film, read_picture

VIDEOS = "/v1/videos"
STEPS = 3
SEEDS = range(2)


async def film(client: httpx.AsyncClient, folder: Path, prompt: str, seed: int, **fields: Any) -> Pixels:
    """(17, 256, 256, 3); in few steps, so that there is time for several seeds."""
    nvext = {"seed": seed, "num_frames": 17, "fps": 8, "num_inference_steps": STEPS}
    body = {"prompt": prompt, "size": "256x256", "response_format": "b64_json", "nvext": nvext, **fields}
    answer = await client.post(VIDEOS, json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    return read_film(base64.b64decode(answer.json()["data"][0]["b64_json"]), folder)


@pytest.mark.parametrize(("direction", "sign"), [("right", 1), ("left", -1)])
async def test_what_moves_moves_as_told(client: httpx.AsyncClient, tmp_path: Path, direction: str, sign: int) -> None:
    for seed in SEEDS:
        frames = await film(client, tmp_path, f"an apple rolling to the {direction} on a white background", seed)
        across = [find_centre(frame)[0] for frame in frames[::4]]
        assert all(sign * (after - before) > 0.02 for before, after in pairwise(across)), (seed, across)


async def test_a_film_begins_with_its_picture(client: httpx.AsyncClient, tmp_path: Path) -> None:
    body = {"prompt": "a cat on a blue background", "size": "256x256", "response_format": "b64_json"}
    drawn = (await client.post("/v1/images/generations", json=body | {"nvext": {"seed": 0}})).json()
    png = drawn["data"][0]["b64_json"]
    picture, prompt = read_picture(base64.b64decode(png)), "a cat walking to the right on a blue background"
    frames = await film(client, tmp_path, prompt, 0, input_reference=f"data:image/png;base64,{png}")
    assert measure_psnr(frames[0], picture) > 25 > measure_psnr(frames[-1], picture)
    assert name_picture(frames[-1]).thing == "cat"
    assert find_centre(frames[-1])[0] > find_centre(frames[0])[0] + 0.05
