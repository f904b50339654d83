"""Input images of a request: an upload or a URL becomes checked bytes. What they are for is not known here."""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.errors import InvalidRequest, ServeError
from serve_app.fetch import check_off_loop, fetch_image
from serve_app.ingress.body import Upload
from serve_app.media.images import ImageBounds, ImageInfo
from serve_app.settings import Settings


async def read_image(
    param: str, uploads: Sequence[Upload], urls: Sequence[str], settings: Settings
) -> ImageInfo | None:
    """The one image of a field, from its upload or its https or data URL; None where there is neither.

    Raises InvalidRequest, UnsafeURL or TooLarge, which name the field.
    """
    if uploads and urls:
        raise InvalidRequest(f"'{param}' is given twice: as an upload and as a URL.", param=param)
    if len(uploads) + len(urls) > 1:
        raise InvalidRequest(f"'{param}' must be one image, not {len(uploads) + len(urls)}.", param=param)
    bounds = ImageBounds.of(settings.limits)
    try:
        if uploads:
            return await check_off_loop(uploads[0].data, bounds, param)
        return await fetch_image(urls[0], settings.fetch, bounds) if urls else None
    except ServeError as error:
        error.param = error.param or param
        raise
