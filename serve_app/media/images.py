"""Encodes generated images and checks images that callers send. Knows files and pixels; no engine, no URL, no store."""

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from serve_app.errors import GenerationFailed, InvalidRequest
from serve_app.media.facts import as_json, cleaned
from serve_app.settings import RequestLimits
from serve_app.tasks import ImageFormat

Pixels = NDArray[np.uint8]
"""uint8, RGB: (height, width, 3) for an image, (frames, height, width, 3) for a video."""

# Measured on 1024x1024 photo-like pixels (CPU ms, MB): level 6 235, 1.81; level 1 119, 2.05; level 1 with run lengths
# only (zlib's Z_RLE) 85, 1.81. PNG's filters have already taken out what matching strings would find.
_PNG_LEVEL = 1
_PNG_STRATEGY = 3
_QUALITY = 95
_WEBP_EFFORT = 2  # of 0..6; 4, Pillow's default, takes twice the time for a few per cent
_TURNED = range(5, 9)  # EXIF orientations that swap width and height

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, OverflowError, struct.error, zlib.error)
"""What Pillow raises on broken files."""


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
    if format == "jpeg":
        return save(image, "JPEG", quality=quality, exif=_exif(provenance))
    if format == "webp":
        return save(image, "WEBP", quality=quality, method=_WEBP_EFFORT, exif=_exif(provenance))
    text = PngInfo()
    for name, value in cleaned(provenance or {}).items():
        text.add_text(name, value)
    return save(image, "PNG", compress_level=_PNG_LEVEL, compress_type=_PNG_STRATEGY, pnginfo=text)


def save(image: Image.Image, format: str, **options: Any) -> bytes:
    """The file that Pillow writes with these options."""
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def check_encoders() -> None:
    """Encodes a tiny picture in every format; raises GenerationFailed where this Pillow lacks one."""
    for format in get_args(ImageFormat):
        try:
            encode_image(np.zeros((16, 16, 3), np.uint8), format, None, {"probe": "1"})
        except (KeyError, OSError) as exc:
            raise GenerationFailed(f"Pillow cannot encode {format}: {exc!r}") from exc


def check_image(data: bytes, limits: RequestLimits) -> ImageInfo:
    """What `data` is, after decoding all of it: one PNG, JPEG or WebP picture, whole, and within the limits.

    Raises InvalidRequest. The limits are held against the header, before anything is unpacked. The engine decodes once
    more (20 ms for a PNG of 1024 x 1024): only decoding tells a broken picture behind right checksums, and its caller
    must hear of it before a job is stored. What is handed on is the file: engines and jobs take files, and pixels would
    be several times its size.
    """
    if len(data) > limits.image_bytes:
        raise InvalidRequest(f"The image is larger than the limit of {limits.image_bytes} bytes.")
    format: ImageFormat | None = next((name for name, (begin, _) in _FILES.items() if re.match(begin, data)), None)
    if format is None:
        raise InvalidRequest("The image must be a PNG, JPEG or WebP file.")
    try:
        # Whatever follows the picture's last byte is cut off: a file may be an archive or a page as well (a polyglot).
        data = data[: _FILES[format][1](data)]
        image = Image.open(io.BytesIO(data), formats=[format.upper()])
        width, height = image.size
        _check_shape(width, height, limits)
        if format != "jpeg" and getattr(image, "is_animated", False):
            raise InvalidRequest("The image is animated; a single picture is needed.")
        image.load()
        if image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED:
            width, height = height, width
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise InvalidRequest(f"The image has more than {limits.image_pixels} pixels.") from exc
    except _BROKEN as exc:
        raise InvalidRequest("The image is damaged or incomplete.") from exc
    return ImageInfo(format, width, height, data)


def decode_image(data: bytes) -> Image.Image:
    """Decodes checked bytes: upright, as RGB, or as RGBA if it has transparency."""
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if upright.mode.startswith("I"):
        # 16 bits of grey: Pillow would cut what is above 255, and so nearly all of it, to white
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    return upright.convert("RGBA" if upright.has_transparency_data else "RGB")


def _check_shape(width: int, height: int, limits: RequestLimits) -> None:
    shape = f"The image has {width} x {height} pixels; the limit is"
    if width * height > limits.image_pixels:
        raise InvalidRequest(f"{shape} {limits.image_pixels} in all (limits.image_pixels).")
    if max(width, height) > limits.image_side:
        raise InvalidRequest(f"{shape} {limits.image_side} a side (limits.image_side).")
    # a picture of 1 x 15,000,000 pixels is no picture, and resizing it takes memory by the product of both shapes
    if max(width, height) > limits.image_aspect * min(width, height):
        raise InvalidRequest(f"{shape} {limits.image_aspect:g} to 1 (limits.image_aspect).")


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


_FILES: dict[ImageFormat, tuple[bytes, Callable[[bytes], int]]] = {
    "png": (rb"\x89PNG\r\n\x1a\n", _png_end),
    "jpeg": (rb"\xff\xd8\xff", _jpeg_end),
    "webp": (rb"(?s)RIFF.{4}WEBP", _webp_end),
}
"""By format: how a file begins, and what finds the end of its picture."""


def _exif(provenance: dict[str, str] | None) -> bytes:
    if not provenance:
        return b""
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = as_json(provenance).encode()  # as text, Pillow would write ASCII alone
    return exif.tobytes()
