"""Input images of a request: an upload or a URL becomes checked bytes. What they are for is not known here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.errors import InvalidRequest, ServeError
from serve_app.fetch import fetch_image
from serve_app.ingress.body import Upload
from serve_app.media.images import check_image
from serve_app.settings import Settings


@dataclass(frozen=True, slots=True)
class InputImage:
    """An encoded image that is what it says, and its size in pixels."""

    data: bytes
    width: int
    height: int


async def read_image(param: str, uploads: Sequence[Upload], url: str | None, settings: Settings) -> InputImage | None:
    """The one image of a field, from its upload or its https or data URL; None where there is neither.

    Raises InvalidRequest, UnsafeURL or TooLarge, which name the field.
    """
    limits = settings.limits
    if len(uploads) > 1:
        raise InvalidRequest(f"'{param}' must be one image, not {len(uploads)}.", param=param)
    if uploads and url is not None:
        raise InvalidRequest(f"'{param}' is given twice: as an upload and as a URL.", param=param)
    try:
        if uploads:
            data = uploads[0].data
        elif url is not None:
            data = await fetch_image(url, settings.fetch, limits.image_bytes, limits.image_pixels)
        else:
            return None
        info = await asyncio.to_thread(check_image, data, limits.image_bytes, limits.image_pixels)
    except ServeError as error:
        error.param = error.param or param
        raise
    return InputImage(info.data, info.width, info.height)
