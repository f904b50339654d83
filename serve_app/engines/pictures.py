"""Pictures at the sizes that a model can make: sizes and frame counts are rounded up, and the rest is cropped. Pure."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from serve_app.media.images import Pixels, decode_image, save


def next_multiple(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple


def next_frames(frames: int, group: int) -> int:
    """The smallest group x k + 1 that is not below `frames`: video models pack frames after the first by `group`."""
    return next_multiple(frames - 1, group) + 1


def spread(count: int, total: int) -> tuple[int, ...]:
    """`count` of the steps 1 to `total`, evenly spread and none of them the last, where there are so many."""
    places = {max(1, round(total * (place + 1) / (count + 1))) for place in range(count)}
    return tuple(sorted(step for step in places if step <= total))


def read(data: bytes, width: int = 0, height: int = 0) -> Image.Image:
    """The picture, upright, RGB, resized where a size is given; transparent places show white."""
    picture = decode_image(data).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    opaque = Image.alpha_composite(white, picture).convert("RGB")
    return opaque.resize((width, height), Image.Resampling.LANCZOS) if width else opaque


def read_mask(data: bytes, width: int, height: int) -> NDArray[np.bool_]:
    """(height, width), True where to draw: where it is transparent (OpenAI's rule), or white if all is opaque."""
    picture = decode_image(data).convert("RGBA")
    picture = picture.resize((width, height), Image.Resampling.NEAREST)
    alpha = np.asarray(picture.getchannel("A"))
    if alpha.min() < 255:
        return alpha < 128
    return np.asarray(picture.convert("L")) >= 128


def pad(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Grown to the right and below by repeating the last column and row; what a pipeline makes is cropped back."""
    pixels = np.asarray(picture)
    right, below = width - pixels.shape[1], height - pixels.shape[0]
    edges = ((0, below), (0, right)) + ((0, 0),) * (pixels.ndim - 2)
    return Image.fromarray(np.pad(pixels, edges, mode="edge"))


def to_pixels(values: NDArray[np.floating]) -> Pixels:
    """From 0..1 to 0..255."""
    return (values * 255).round().clip(0, 255).astype(np.uint8)


def blank(width: int = 64, height: int = 64) -> bytes:
    """An encoded grey picture, for the warm-up of models that need one."""
    return save(Image.new("RGB", (width, height), "grey"), "PNG")
