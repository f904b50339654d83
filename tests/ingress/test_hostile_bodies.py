"""Bodies, forms and files of a caller who means harm: a 4xx names the field, and the server goes on."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.ingress.endpoints import CHAT, GOOD, JSON, VIDEOS, error_of, healthy
from tests.ingress.images import EDITS, IMAGES, data_url, opened, png

# --- bodies ---------------------------------------------------------------------------------------------------------


async def test_ten_thousand_fields(client: httpx.AsyncClient) -> None:
    parts = [f'--XX\r\nContent-Disposition: form-data; name="f{i}"\r\n\r\n1\r\n' for i in range(10_000)]
    form, headers = "".join(parts) + "--XX--\r\n", {"content-type": "multipart/form-data; boundary=XX"}
    for path in (IMAGES, EDITS, VIDEOS, "/v1/videos/sync"):
        answer = await client.post(path, content=form, headers=headers)
        assert "limits.form_fields" in error_of(answer, 400)["message"]
    # unknown fields of JSON are ignored, however many they are
    body = {**GOOD[CHAT], **{f"f{i}": i for i in range(10_000)}}
    assert (await client.post(CHAT, json=body)).status_code == 200


async def test_very_many_messages(client: httpx.AsyncClient) -> None:
    """Each costs tokens of the chat template, though it holds no text."""
    for count, limit in ((2000, "limits.messages"), (50_000, "limits.json_values")):
        empty = [{"role": "user", "content": ""}] * count
        answer = await client.post(CHAT, json={"messages": [*empty, *GOOD[CHAT]["messages"]]})
        assert limit in error_of(answer, 400)["message"]


async def test_deep_nesting_in_json_and_forms(client: httpx.AsyncClient) -> None:
    for depth in (40, 40_000):
        raw = '{"prompt": "a", "metadata": ' + "[" * depth + "]" * depth + "}"
        assert "limits.json_depth" in error_of(await client.post(IMAGES, content=raw, headers=JSON), 400)["message"]
    field = "nvext" + "[a]" * 40
    assert error_of(await client.post(IMAGES, files={field: (None, "1")}), 400)["param"] == "nvext"


async def test_a_field_may_stand_once(client: httpx.AsyncClient) -> None:
    parts: list[list[tuple[str, Any]]] = [
        [("prompt", (None, "a")), ("prompt", (None, "b"))],
        [("prompt", (None, "a")), ("nvext[seed]", (None, "1")), ("nvext[seed]", (None, "2"))],
        [("prompt", (None, "a")), ("nvext", (None, "{}")), ("nvext[seed]", (None, "1"))],
        [("prompt", (None, "a")), ("input_reference", (None, data_url(png()))), ("input_reference", ("a.png", png()))],
        [("prompt", (None, "a")), ("input_reference", ("a.png", png())), ("input_reference", ("b.png", png()))],
    ]
    for each, param in zip(
        parts, ("prompt", "nvext[seed]", "nvext[seed]", "input_reference", "input_reference"), strict=True
    ):
        for path in (IMAGES, VIDEOS):
            assert error_of(await client.post(path, files=each), 400)["param"] == param
    twice = b'{"prompt": "a", "prompt": "b"}'
    assert error_of(await client.post(IMAGES, content=twice, headers=JSON), 400)["param"] == "prompt"
    assert error_of(await client.get("/v1/videos?limit=1&limit=2"), 400)["param"] == "limit"


@pytest.mark.parametrize(
    ("field", "value"),
    [("n", "two"), ("n", ""), ("n", "1e400"), ("n", "9" * 5000), ("n", "0x1"), ("stream", "maybe"), ("size", "")],
)
async def test_forms_are_coerced_no_further_than_they_can_be(client: httpx.AsyncClient, field: str, value: str) -> None:
    answer = await client.post(IMAGES, files={"prompt": (None, "a"), field: (None, value)})
    assert error_of(answer, 400)["param"] == field


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
async def test_no_number_of_a_form_is_without_end(client: httpx.AsyncClient, value: str) -> None:
    parts = {"prompt": (None, "a"), "nvext[guidance_scale]": (None, value)}
    assert error_of(await client.post(IMAGES, files=parts), 400)["param"] == "nvext.guidance_scale"


async def test_a_compressed_body_is_not_unpacked(client: httpx.AsyncClient) -> None:
    bomb = zlib.compress(json.dumps({"prompt": "a" * 5_000_000}).encode())
    for encoding in ("gzip", "deflate", "br"):
        answer = await client.post(IMAGES, content=bomb, headers={**JSON, "content-encoding": encoding})
        assert encoding in error_of(answer, 415)["message"]


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
async def test_a_body_that_is_said_not_to_be_compressed_is_read(client: httpx.AsyncClient, encoding: str) -> None:
    answer = await client.post(IMAGES, content=b"{}", headers={**JSON, "content-encoding": encoding})
    assert error_of(answer, 400)["param"] == "prompt"


# --- images ---------------------------------------------------------------------------------------------------------


def sound_png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG whose chunks and checksums are right, whatever its pixels hold."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def animated() -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    return out.getvalue()


HOSTILE = {
    "a bomb of 900 million pixels": sound_png(30_000, 30_000, zlib.compress(b"\0" * 100_000)),
    "pixels that do not unpack": sound_png(64, 64, b"no zlib stream"),
    "fewer pixels than it says": sound_png(64, 64, zlib.compress(b"\0" * 100)),
    "truncated": png()[:-20],
    "damaged": png()[:60] + b"\0\0\0\0" + png()[64:],
    "animated": animated(),
    "a script": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "a page": b"<html><script>alert(1)</script></html>",
    "a GIF": b"GIF89a" + b"\0" * 64,
    "an archive": b"PK\x03\x04" + b"\0" * 64,
    "a magic number": b"\x89PNG\r\n\x1a\n",
    "nothing": b"",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_images_are_refused_wherever_one_may_come(client: httpx.AsyncClient, data: bytes) -> None:
    prompt = {"prompt": (None, "a")}
    for path, field in ((EDITS, "image"), (IMAGES, "input_reference"), (VIDEOS, "input_reference")):
        answers = [await client.post(path, json={**GOOD[path], field: data_url(data)})]
        if data or field == "image":  # an empty file is as good as left out
            answers.append(await client.post(path, files={**prompt, field: ("a.png", data, "image/png")}))
        for answer in answers:
            assert error_of(answer, 400)["param"] == field
    files = {**prompt, "image": ("a.png", png()), "mask": ("m.png", data or b"x")}
    assert error_of(await client.post(EDITS, files=files), 400)["param"] == "mask"
    await healthy(client)


async def test_nothing_of_a_polyglot_reaches_the_answer(client: httpx.AsyncClient) -> None:
    """A picture that is also an archive and a page is taken as the picture that it is, and no more."""
    tail = b"PK\x05\x06<html><script>alert(1)</script>"
    fields = {"prompt": "a", "nvext[num_inference_steps]": "1", "nvext[seed]": "3"}
    answers = [
        await client.post(EDITS, data=fields, files={"image": ("a.png", data, "text/html")})
        for data in (png(), png() + tail)
    ]
    made = [await client.get(answer.json()["data"][0]["url"]) for answer in answers]
    assert made[0].content == made[1].content
    assert made[1].headers["content-type"] == "image/png"
    assert opened(made[1].content).format == "PNG"


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\r\nSet-Cookie: b", "\0", "a" * 300, "ä🦊.png", "", ".."])
async def test_a_file_name_means_nothing(client: httpx.AsyncClient, name: str) -> None:
    fields = {"prompt": "a", "nvext[num_inference_steps]": "1"}
    answer = await client.post(EDITS, data=fields, files={"image": (name or "x", png(), "image/png")})
    assert answer.status_code == 200
    assert "etc" not in answer.text
    assert "set-cookie" not in answer.headers
