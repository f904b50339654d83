"""The README's pictures come out of its demo models, as it says: twice the same, and as they were committed.

`python -m tests.ingress.test_readme_pictures` writes them anew, after other weights were committed.
"""

from __future__ import annotations

import asyncio
import base64
import io
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from serve_app.demo.training import motion_judge
from tests.looking import Pixels, measure_psnr, name_picture, read_film, read_picture

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "benchmarks" / "results"
README = (ROOT / "README.md").read_text()
SHOWN = 5
"""Frames of a film side by side."""


@dataclass(frozen=True)
class Shown:
    """A file of FOLDER, and what it shows."""

    file: str
    path: str
    prompt: str
    seed: int


PICTURES = (
    Shown("sunset.png", "/v1/images/generations", "A sunset over the ocean", 0),
    Shown("castle.png", "/v1/images/generations", "A castle in the mountains", 0),
)
FILM = Shown("raccoon-film.png", "/v1/videos", "A curious raccoon exploring a garden", 0)


async def make(client: httpx.AsyncClient, shown: Shown) -> bytes:
    """The bytes of the picture or film, at the default steps."""
    nvext = {"seed": shown.seed} | ({"num_frames": 17, "fps": 8} if shown is FILM else {})
    body = {"prompt": shown.prompt, "size": "256x256", "response_format": "b64_json", "nvext": nvext}
    answer = await client.post(shown.path, json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    return base64.b64decode(answer.json()["data"][0]["b64_json"])


def lay_out(film: bytes, folder: Path) -> Pixels:
    """SHOWN frames, the first and the last among them, in a row at half their size."""
    frames = read_film(film, folder)
    chosen = frames[np.linspace(0, len(frames) - 1, SHOWN).round().astype(int)]
    small = [Image.fromarray(frame).resize((128, 128), Image.Resampling.BOX) for frame in chosen]
    return np.concatenate([np.asarray(frame) for frame in small], axis=1)


@pytest.mark.parametrize("shown", PICTURES, ids=lambda shown: shown.file)
async def test_a_picture_comes_out_as_committed(client: httpx.AsyncClient, shown: Shown) -> None:
    made = await make(client, shown)
    assert made == await make(client, shown)
    assert measure_psnr(read_picture(made), read_picture((FOLDER / shown.file).read_bytes())) >= 30


async def test_the_film_comes_out_as_committed(client: httpx.AsyncClient, tmp_path: Path) -> None:
    made = await make(client, FILM)
    assert made == await make(client, FILM)
    assert measure_psnr(lay_out(made, tmp_path), read_picture((FOLDER / FILM.file).read_bytes())) >= 30
    frames = read_film(made, tmp_path)
    assert name_picture(frames[len(frames) // 2]).thing == "raccoon"
    assert motion_judge.judge(torch.from_numpy(frames / np.float32(255)).permute(0, 3, 1, 2)) != "still"


@pytest.mark.parametrize("shown", [*PICTURES, FILM], ids=lambda shown: shown.file)
def test_the_readme_tells_prompt_and_seed(shown: Shown) -> None:
    told = re.search(rf"!\[([^\]]*)\]\(benchmarks/results/{re.escape(shown.file)}\)", README)
    assert told
    assert shown.prompt in told[1]
    assert f"seed {shown.seed}" in told[1]


async def write() -> None:
    """Writes all of them, from the server at port 8000."""
    async with httpx.AsyncClient(base_url="http://localhost:8000", timeout=300) as client:
        for shown in PICTURES:
            Image.open(io.BytesIO(await make(client, shown))).convert("RGB").save(FOLDER / shown.file, optimize=True)
        with tempfile.TemporaryDirectory() as folder:
            Image.fromarray(lay_out(await make(client, FILM), Path(folder))).save(FOLDER / FILM.file, optimize=True)


if __name__ == "__main__":
    asyncio.run(write())
