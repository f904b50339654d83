"""What tests see in pictures and films: as arrays of bytes, by things apart from the background, by a judge."""

from __future__ import annotations

import io
import subprocess
from functools import cache
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve_app.demo.training.judge import Judge, Verdict, read_judge
from tests.probing import probe

Pixels = NDArray[np.uint8]
WEIGHTS = Path(__file__).parent / "fixtures" / "judge.safetensors"
COARSE = 64
"""Places of a side on which things are told apart."""


def read_picture(data: bytes) -> Pixels:
    """(H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def read_film(data: bytes, folder: Path) -> Pixels:
    """(frames, H, W, 3); `folder` holds the file meanwhile."""
    path = folder / "film.mp4"
    path.write_bytes(data)
    info = probe(path)
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-i",
        str(path),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    done = subprocess.run(command, check=True, capture_output=True, timeout=60)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, info.height, info.width, 3)


def measure_psnr(one: Pixels, other: Pixels) -> float:
    """In dB; infinite where both are equal."""
    error = float(np.square(one.astype(float) - other.astype(float)).mean())
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def find_background(picture: Pixels) -> NDArray[np.floating]:
    """(3,): the colour of most of its edge."""
    edge = np.concatenate([picture[:8].reshape(-1, 3), picture[:, :8].reshape(-1, 3), picture[:, -8:].reshape(-1, 3)])
    return np.median(edge, axis=0)


def find_things(picture: Pixels) -> list[NDArray[np.bool_]]:
    """Masks (COARSE, COARSE) of what stands out of a plain background, without specks; a diagonal connects."""
    small = np.asarray(Image.fromarray(picture).resize((COARSE, COARSE), Image.Resampling.BOX)).astype(float)
    stands_out = np.abs(small - find_background(picture)).max(axis=2) > 40
    found: list[NDArray[np.bool_]] = []
    while stands_out.any():
        thing = np.zeros_like(stands_out)
        thing[tuple(np.argwhere(stands_out)[0])] = True
        while True:
            grown = np.pad(thing, 1)
            grown = np.logical_or.reduce([np.roll(grown, move, (0, 1)) for move in _AROUND])[1:-1, 1:-1] & stands_out
            if (grown == thing).all():
                break
            thing = grown
        stands_out &= ~thing
        if thing.sum() > COARSE**2 / 100:
            found.append(thing)
    return found


_AROUND = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]


def find_centre(picture: Pixels) -> tuple[float, float]:
    """(x, y), shares of the picture, of all that stands out of its plain background."""
    things = find_things(picture)
    assert things, "nothing stands out"
    y, x = np.nonzero(np.any(things, axis=0))
    return float(x.mean() / COARSE), float(y.mean() / COARSE)


@cache
def _judge() -> Judge:
    return read_judge(WEIGHTS)


def name_picture(picture: Pixels) -> Verdict:
    """Which thing it shows, before what, at which time."""
    return _judge().name(picture)


def rate_thing(picture: Pixels, label: str) -> float:
    """How much the judge sees this thing in it, rather than any other: the logarithm of a share."""
    return _judge().rate(picture, label)
