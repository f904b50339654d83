from __future__ import annotations

import contextlib
import io
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, features

from serve_app.errors import InvalidRequest
from serve_app.media.images import Pixels, check_image, decode_image, encode_image
from serve_app.settings import RequestLimits
from serve_app.tasks import ImageFormat

FORMATS: list[ImageFormat] = ["png", "jpeg", "webp"]
LIMITS = RequestLimits(image_bytes=1_000_000, image_pixels=1_000_000)
FACTS = {"model": "demo/flux-tiny", "seed": "7", "prompt": 'a "raccoon"\nin Zürich ✓'}


def pixels(width: int = 48, height: int = 32, seed: int = 0) -> Pixels:
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([x * 255 / width, y * 255 / height, (x + y) * 127 / (width + height)], -1)
    return (smooth + np.random.default_rng(seed).normal(0, 2, smooth.shape)).clip(0, 255).astype(np.uint8)


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


# --- encoding ---


@pytest.mark.parametrize("format", FORMATS)
def test_round_trip(format: ImageFormat) -> None:
    source = pixels()
    data = encode_image(source, format, None, FACTS)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size, image.mode) == (format.upper(), (48, 32), "RGB")
        decoded = np.asarray(image).astype(int)
    assert np.abs(decoded - source).mean() < (1e-9 if format == "png" else 4)


@pytest.mark.parametrize("format", FORMATS)
def test_same_input_same_bytes(format: ImageFormat) -> None:
    turned_around = dict(reversed(FACTS.items()))
    assert encode_image(pixels(), format, 60, FACTS) == encode_image(pixels(), format, 60, turned_around)
    assert encode_image(pixels(), format, 60, FACTS) != encode_image(pixels(seed=1), format, 60, FACTS)


def test_png_carries_the_facts_as_text() -> None:
    with Image.open(io.BytesIO(encode_image(pixels(), "png", None, FACTS))) as image:
        assert image.info == FACTS


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_jpeg_and_webp_carry_the_facts_in_exif(format: ImageFormat) -> None:
    with Image.open(io.BytesIO(encode_image(pixels(), format, None, FACTS))) as image:
        written = image.getexif()[ExifTags.Base.ImageDescription]
    assert json.loads(written.encode("latin-1")) == FACTS  # Pillow reads bytes as latin-1, we write UTF-8


@pytest.mark.parametrize("format", FORMATS)
def test_hostile_facts_do_not_break_the_file(format: ImageFormat) -> None:
    facts = {"prompt": "\0\ud800" + "é" * 100_000, "negative_prompt": "😀" * 100_000}
    check_image(encode_image(pixels(), format, None, facts), LIMITS)


@pytest.mark.parametrize("format", FORMATS)
def test_without_facts_nothing_is_written(format: ImageFormat) -> None:
    with Image.open(io.BytesIO(encode_image(pixels(), format))) as image:
        assert dict(image.getexif()) == {}
        assert not image.info.keys() & {"exif", "model"}


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_compression_is_the_quality(format: ImageFormat) -> None:
    sizes = [len(encode_image(pixels(256, 256), format, quality)) for quality in (0, 30, 60, 90, 100)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 3


def test_png_is_lossless_whatever_the_compression() -> None:
    assert encode_image(pixels(), "png", 10) == encode_image(pixels(), "png")


# --- checking ---


@pytest.mark.parametrize("format", FORMATS)
def test_check_tells_format_and_size(format: ImageFormat) -> None:
    data = encode_image(pixels(), format)
    info = check_image(data, LIMITS)
    assert (info.format, info.width, info.height, info.data) == (format, 48, 32, data)


@pytest.mark.parametrize("format", FORMATS)
def test_truncated_is_refused(format: ImageFormat) -> None:
    data = encode_image(pixels(), format)
    for length in (3, 12, 40, len(data) // 2, len(data) - 14, len(data) - 1):
        with pytest.raises(InvalidRequest):
            check_image(data[:length], LIMITS)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("tail", [b"PK\x03\x04 an archive", b"<html><script>alert(1)</script>", b"\0" * 10])
def test_what_follows_a_picture_is_cut_off(format: ImageFormat, tail: bytes) -> None:
    data = encode_image(pixels(), format)
    assert check_image(data + tail, LIMITS).data == data


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow says what is wrong with EXIF data
@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_are_refused_or_read_but_never_break(format: ImageFormat) -> None:
    data = encode_image(pixels(), format, None, FACTS)
    random = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data)
        for place in random.integers(0, len(data), 3):
            broken[place] = random.integers(256)
        with contextlib.suppress(InvalidRequest):
            check_image(bytes(broken), LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"RIFF\x00\x00\x00\x00WAVE",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"RIFF\x04\x00\x00\x00WEBP",
        saved(Image.new("RGB", (4, 4)), "GIF"),
        saved(Image.new("RGB", (4, 4)), "BMP"),
        saved(Image.new("RGB", (4, 4)), "TIFF"),
        saved(Image.new("RGB", (4, 4)), "ICO"),
        saved(Image.new("L", (4, 4)), "EPS"),
    ],
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        check_image(data, LIMITS)


def png_of(width: int, height: int, body: bytes) -> bytes:
    """A PNG whose header claims a size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(1001, 1000), (30_000, 30_000), (2**31 - 1, 2**31 - 1), (1, 2_000_000)])
def test_bombs_are_refused_by_their_header(width: int, height: int) -> None:
    with pytest.raises(InvalidRequest, match="pixels"):
        check_image(png_of(width, height, zlib.compress(b"\0" * 100_000)), LIMITS)


@pytest.mark.parametrize(
    ("width", "height", "limit"),
    [(8193, 1000, "image_side"), (1000, 8193, "image_side"), (170, 10, "image_aspect"), (1, 100, "image_aspect")],
)
def test_a_picture_has_the_shape_of_one(width: int, height: int, limit: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"limits\.{limit}"):
        check_image(png_of(width, height, b""), RequestLimits(image_bytes=1_000_000, image_pixels=10_000_000))
    assert check_image(saved(Image.new("L", (160, 10)), "PNG"), LIMITS).width == 160


def test_sixteen_bits_of_grey_are_scaled() -> None:
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    data = saved(Image.fromarray(ramp), "PNG")
    assert Image.open(io.BytesIO(data)).mode.startswith("I")
    shown = np.asarray(decode_image(data))
    assert shown.shape == (16, 16, 3)
    assert np.array_equal(shown[..., 0].ravel(), np.arange(256))


def test_text_bomb_is_refused() -> None:
    bomb = zlib.compress(b"x" * 100_000_000)
    chunk = b"zTXt" + b"k\0\0" + bomb
    ztxt = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    whole = encode_image(pixels(), "png")
    with pytest.raises(InvalidRequest):
        check_image(whole[:33] + ztxt + whole[33:], LIMITS)


def test_too_many_bytes() -> None:
    data = encode_image(pixels(), "png")
    with pytest.raises(InvalidRequest, match=f"{len(data) - 1} bytes"):
        check_image(data, RequestLimits(image_bytes=len(data) - 1, image_pixels=10**6))
    check_image(data, RequestLimits(image_bytes=len(data), image_pixels=48 * 32))


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_animated_is_refused(format: str) -> None:
    frames = [Image.fromarray(pixels(seed=seed)) for seed in range(3)]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(InvalidRequest, match="animated"):
        check_image(data, LIMITS)


def test_a_phones_multi_picture_jpeg_is_its_first_picture() -> None:
    first, second = Image.fromarray(pixels()), Image.fromarray(pixels(seed=1))
    data = saved(first, "MPO", save_all=True, append_images=[second])
    info = check_image(data, LIMITS)
    assert (info.format, info.width, info.height) == ("jpeg", 48, 32)
    assert len(info.data) < len(data)
    assert decode_image(info.data).size == (48, 32)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = saved(Image.fromarray(pixels()), "JPEG", exif=exif)
    info = check_image(data, LIMITS)
    assert (info.width, info.height) == decode_image(data).size == ((48, 32) if orientation < 5 else (32, 48))


@pytest.mark.parametrize(
    ("mode", "format", "expected"),
    [
        ("RGBA", "PNG", "RGBA"),
        ("LA", "PNG", "RGBA"),
        ("L", "PNG", "RGB"),
        ("P", "PNG", "RGB"),
        ("1", "PNG", "RGB"),
        ("I;16", "PNG", "RGB"),
        ("CMYK", "JPEG", "RGB"),
        ("L", "JPEG", "RGB"),
        ("RGBA", "WEBP", "RGBA"),
    ],
)
def test_decode_gives_rgb_or_rgba(mode: str, format: str, expected: str) -> None:
    assert decode_image(saved(Image.new(mode, (8, 8)), format)).mode == expected


def test_progressive_jpeg_is_read_to_its_end() -> None:
    data = saved(Image.fromarray(pixels(200, 200)), "JPEG", progressive=True, restart_marker_blocks=2)
    assert check_image(data + b"tail", LIMITS).data == data


def test_pillow_has_what_we_encode() -> None:
    assert features.check("webp")
    assert features.check("jpg")
    assert features.check("zlib")
