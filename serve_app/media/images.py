"""Encodes generated images and checks images that callers send. Knows files and pixels; no engine, no URL, no store."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from serve_app.errors import GenerationFailed, InvalidRequest
from serve_app.media.facts import as_json, cleaned
from serve_app.settings import RequestLimits
from serve_app.tasks import ImageFormat

Pixels = NDArray[np.uint8]
"""uint8 RGB of (height, width, 3)."""

# Measured on 1024x1024 photo-like pixels (CPU ms, MB): level 6 235, 1.81; level 1 119, 2.05; level 1 with run lengths
# only (zlib's Z_RLE) 85, 1.81. PNG's filters have already taken out what matching strings would find.
_PNG_LEVEL = 1
_PNG_STRATEGY = 3
_QUALITY = 95
_WEBP_EFFORT = 2  # of 0..6; 4, Pillow's default, takes twice the time for a few per cent
_TURNED = range(5, 9)  # EXIF orientations that swap width and height

_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)
"""What Pillow raises on broken files."""


@dataclass(frozen=True, slots=True)
class ImageBounds:
    """What an input image may be: bytes, pixels in all, pixels of a side, and how many times one side is the other.

    A picture of 1 x 15,000,000 pixels is no picture, and resizing it takes memory by the product of both shapes.
    """

    bytes: int
    pixels: int
    side: int = 8192
    aspect: float = 16.0

    @classmethod
    def of(cls, limits: RequestLimits) -> ImageBounds:
        return cls(limits.image_bytes, limits.image_pixels, limits.image_side, limits.image_aspect)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """`width` x `height` as shown (EXIF orientation applied). `data` is the image without whatever followed it."""

    format: ImageFormat
    width: int
    height: int
    data: bytes = field(repr=False)


def encode_image(
    pixels: Pixels, format: ImageFormat, compression: int | None = None, provenance: dict[str, str] | None = None
) -> bytes:
    """A file whose bytes depend on the arguments alone.

    `compression` 0..100 is the quality of JPEG and WebP (100 is best, as OpenAI's default of 100 means); PNG is
    lossless and ignores it. `provenance` becomes PNG text chunks, or JSON in the EXIF image description.
    """
    image = Image.fromarray(pixels)
    quality = _QUALITY if compression is None else compression
    out = io.BytesIO()
    if format == "png":
        text = PngInfo()
        for name, value in cleaned(provenance or {}).items():
            text.add_text(name, value)
        image.save(out, "PNG", compress_level=_PNG_LEVEL, compress_type=_PNG_STRATEGY, pnginfo=text)
    elif format == "jpeg":
        image.save(out, "JPEG", quality=max(1, quality), exif=_exif(provenance))
    else:
        image.save(out, "WEBP", quality=quality, method=_WEBP_EFFORT, exif=_exif(provenance))
    return out.getvalue()


def check_encoders() -> None:
    """Encodes a tiny picture in every format; raises GenerationFailed where this Pillow lacks one."""
    for format in get_args(ImageFormat):
        try:
            encode_image(np.zeros((16, 16, 3), np.uint8), format, None, {"probe": "1"})
        except (KeyError, OSError) as exc:
            raise GenerationFailed(f"Pillow cannot encode {format}: {exc!r}") from exc


def check_image(data: bytes, bounds: ImageBounds, *, param: str | None = None) -> ImageInfo:
    """What `data` is, after decoding all of it: one PNG, JPEG or WebP picture, whole, and within the bounds.

    Raises InvalidRequest. The bounds are held against the header, before anything is unpacked.
    """
    if len(data) > bounds.bytes:
        raise InvalidRequest(f"The image is larger than the limit of {bounds.bytes} bytes.", param=param)
    format = _sniffed(data)
    if format is None:
        raise InvalidRequest("The image must be a PNG, JPEG or WebP file.", param=param)
    try:
        # Whatever follows the picture's last byte is cut off: a file may be an archive or a page as well (a polyglot).
        data = data[: _END[format](data)]
        image = Image.open(io.BytesIO(data), formats=[format.upper()])
        width, height = image.size
        _check_shape(width, height, bounds, param)
        if format != "jpeg" and getattr(image, "is_animated", False):
            raise InvalidRequest("The image is animated; a single picture is needed.", param=param)
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED:
            width, height = height, width
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise InvalidRequest(f"The image has more than {bounds.pixels} pixels.", param=param) from exc
    except _UNREADABLE as exc:
        raise InvalidRequest("The image is damaged or incomplete.", param=param) from exc
    return ImageInfo(format, width, height, data)


def decode_image(data: bytes) -> Image.Image:
    """Decodes checked bytes: upright, as RGB, or as RGBA if it has transparency."""
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if upright.mode.startswith("I"):
        # 16 bits of grey: Pillow would cut what is above 255, and so nearly all of it, to white
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    return upright.convert("RGBA" if upright.has_transparency_data else "RGB")


def _check_shape(width: int, height: int, bounds: ImageBounds, param: str | None) -> None:
    shape = f"The image has {width} x {height} pixels; the limit is"
    if width * height > bounds.pixels:
        raise InvalidRequest(f"{shape} {bounds.pixels} in all (limits.image_pixels).", param=param)
    if max(width, height) > bounds.side:
        raise InvalidRequest(f"{shape} {bounds.side} a side (limits.image_side).", param=param)
    if max(width, height) > bounds.aspect * min(width, height):
        raise InvalidRequest(f"{shape} {bounds.aspect:g} to 1 (limits.image_aspect).", param=param)


def _sniffed(data: bytes) -> ImageFormat | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return None


def _png_end(data: bytes) -> int:
    """Behind the IEND chunk (PNG specification, section 5)."""
    position = 8
    while True:
        length, name = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if position > len(data):
            raise EOFError("a chunk is cut off")
        if name == b"IEND":
            return position


def _webp_end(data: bytes) -> int:
    """Behind the RIFF chunk, which holds all of the picture."""
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise EOFError("the RIFF chunk is cut off")
    return end


def _jpeg_end(data: bytes) -> int:
    """Behind the first end-of-image marker that is not inside a segment (ITU-T T.81, annex B)."""
    position = 2
    while True:
        position = data.index(b"\xff", position)
        marker = data[position + 1]
        if marker == 0xD9:
            return position + 2
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker == 0 or 0xD0 <= marker <= 0xD8 or marker == 1:  # entropy-coded data, markers without a length
            position += 2
        else:
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]


_END = {"png": _png_end, "jpeg": _jpeg_end, "webp": _webp_end}


def _exif(provenance: dict[str, str] | None) -> bytes:
    if not provenance:
        return b""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = as_json(provenance).encode()  # as text, Pillow would write ASCII alone
    return exif.tobytes()
