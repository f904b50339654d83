"""Input images of a request: an upload or a URL becomes checked bytes. What they are for is not known here."""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.errors import InvalidRequest, ServeError
from serve_app.fetch import check_off_loop, fetch_image
from serve_app.media.images import ImageBounds, ImageInfo
from serve_app.settings import Settings


async def read_image(param: str, uploads: Sequence[bytes], urls: Sequence[str], settings: Settings) -> ImageInfo | None:
    """The one image of a field; None where there is none. Raises as `read_images` does."""
    given = len(uploads) + len(urls)
    if given > 1 and not (uploads and urls):  # else what is wrong is that it is given in two ways
        raise InvalidRequest(f"'{param}' must be one image, not {given}.", param=param)
    return next(iter(await read_images(param, uploads, urls, settings)), None)


async def read_images(param: str, uploads: Sequence[bytes], urls: Sequence[str], settings: Settings) -> list[ImageInfo]:
    """The images of a field, in their order, from its uploads or its https or data URLs.

    Raises InvalidRequest, UnsafeURL or TooLarge, which name the field.
    """
    if uploads and urls:
        raise InvalidRequest(f"'{param}' is given twice: as an upload and as a URL.", param=param)
    bounds = ImageBounds.of(settings.limits)
    try:
        uploaded = [await check_off_loop(upload, bounds, param) for upload in uploads]
        return uploaded + [await fetch_image(url, settings.fetch, bounds) for url in urls]
    except ServeError as error:
        error.param = error.param or param
        raise
