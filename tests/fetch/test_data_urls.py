"""Images that stand in the URL itself."""

from __future__ import annotations

import base64

import pytest

from serve_app.errors import InvalidRequest
from serve_app.fetch import fetch_image
from serve_app.settings import FetchSettings, RequestLimits
from tests.fetch.conftest import LIMITS, PNG


async def test_data_url() -> None:
    text = base64.b64encode(PNG).decode()
    for prefix in ("data:image/png;base64,", "DATA:IMAGE/PNG;BASE64,", "data:image/jpeg;base64,"):
        assert (await fetch_image(prefix + text, FetchSettings(), LIMITS)).data == PNG


@pytest.mark.parametrize("change", ["A", "=", "\n", " ", "%2B", "-_", "é", "\0"])
async def test_data_url_must_be_exact_base64(change: str) -> None:
    text = base64.b64encode(PNG).decode()
    with pytest.raises(InvalidRequest):
        await fetch_image(f"data:image/png;base64,{text[:40]}{change}{text[40:]}", FetchSettings(), LIMITS)


async def test_data_url_is_measured_before_it_is_decoded() -> None:
    with pytest.raises(InvalidRequest, match="larger"):
        await fetch_image("data:image/png;base64," + "!" * 1_000_000, FetchSettings(), LIMITS)
    await fetch_image(
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
        FetchSettings(),
        RequestLimits(image_bytes=len(PNG), image_pixels=48 * 32),
    )


@pytest.mark.parametrize("body", [b"", b"text", PNG[:-10], b"GIF89a"])
async def test_data_url_must_hold_a_picture(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await fetch_image("data:image/png;base64," + base64.b64encode(body).decode(), FetchSettings(), LIMITS)
