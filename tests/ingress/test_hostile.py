"""What a caller who means harm may send: each is refused by a 4xx that names the field, and the server goes on."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from PIL import Image
from pydantic import BaseModel

from serve_app.protocol.completions import ChatRequest, CompletionRequest
from serve_app.protocol.images import EditRequest, GenerationRequest, ImageExtension
from serve_app.protocol.text import TextExtension
from serve_app.protocol.videos import VideoNvExt, VideoRequest
from tests.ingress.conftest import Running, Serving
from tests.ingress.test_images import data_url, opened, png
from tests.ingress.test_requests import error_of

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
IMAGES = "/v1/images/generations"
EDITS = "/v1/images/edits"
VIDEOS = "/v1/videos"
JSON = {"content-type": "application/json"}
STEPS = {"num_inference_steps": 1}
MODELS: dict[str, type[BaseModel]] = {
    CHAT: ChatRequest,
    COMPLETIONS: CompletionRequest,
    IMAGES: GenerationRequest,
    EDITS: EditRequest,
    VIDEOS: VideoRequest,
}
EXTENSIONS: dict[str, type[BaseModel]] = {CHAT: TextExtension, IMAGES: ImageExtension, VIDEOS: VideoNvExt}
GOOD: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1},
    COMPLETIONS: {"prompt": "hi", "max_tokens": 1},
    IMAGES: {"prompt": "a", "size": "64x64", "nvext": STEPS},
    EDITS: {"prompt": "a", "size": "64x64", "nvext": STEPS, "image": data_url(png())},
    VIDEOS: {"prompt": "a", "size": "64x64", "nvext": {"num_frames": 1, **STEPS}},
}
FREE = {"tools", *(name for name in TextExtension.model_fields if TextExtension.model_fields[name].annotation is Any)}
"""Fields that take any value, for nothing is made of them."""
WRONG = [-1, 2.5, 10**30, 10**350, float("1e300"), "\0", [[]], [None], {"a": [1]}, [{"type": {}}]]
WORKS: list[tuple[str, Any]] = [
    ("seed", -1),
    ("top_k", -1),
    ("prompt", "\0"),
    ("negative_prompt", "\0"),
    ("user", "\0"),
    ("safety_identifier", "\0"),
    ("stop", "\0"),
    ("guidance_scale", 2.5),
    ("flow_shift", 2.5),
    ("true_cfg_scale", 2.5),
    ("stream_options", {"a": [1]}),
]
"""Of these values, those that are valid where they stand."""


async def healthy(client: httpx.AsyncClient) -> None:
    assert (await client.post(CHAT, json=GOOD[CHAT])).status_code == 200


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODELS)
async def test_every_field_is_checked_and_named(client: httpx.AsyncClient, path: str) -> None:
    for field in MODELS[path].model_fields:
        for value in WRONG if field not in FREE else ():
            answer = await client.post(path, content=json.dumps({**GOOD[path], field: value}), headers=JSON)
            if answer.status_code != 200:
                error = error_of(answer, 404 if field == "model" and isinstance(value, str) else 400)
                assert (error["param"] or "").startswith(field), (field, value, error)
            else:
                assert (field, value) in WORKS
    await healthy(client)


@pytest.mark.parametrize("path", EXTENSIONS)
async def test_every_field_of_nvext_is_checked_and_named(client: httpx.AsyncClient, path: str) -> None:
    for field in EXTENSIONS[path].model_fields:
        for value in WRONG if field not in FREE else ():
            body = {**GOOD[path], "nvext": {**GOOD[path].get("nvext", {}), field: value}}
            answer = await client.post(path, content=json.dumps(body), headers=JSON)
            if answer.status_code != 200:
                assert (error_of(answer, 400)["param"] or "").startswith(f"nvext.{field}"), (field, value)
            else:
                assert (field, value) in WORKS
    unknown = {**GOOD[path], "nvext": {"num_inference_stepz": 4}}
    error = error_of(await client.post(path, json=unknown), 400)
    assert error["param"] == "nvext.num_inference_stepz"
    assert next(iter(EXTENSIONS[path].model_fields)) in error["message"], "the message lists what is allowed"


@pytest.mark.parametrize("path", MODELS)
async def test_null_is_as_good_as_left_out(client: httpx.AsyncClient, path: str) -> None:
    body = {**dict.fromkeys(MODELS[path].model_fields), **GOOD[path]}
    answer = await client.post(path, json=body, headers={"Prefer": "wait"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, '{"messages": [{"role": "user", "content": "a"}], "temperature": 1e400}', "temperature"),
        (CHAT, '{"messages": [{"role": "user", "content": "a"}], "n": 1e400}', "n"),
        (CHAT, '{"messages": [{"role": "user", "content": "a"}], "logit_bias": {"7": -1e999}}', "logit_bias"),
        (IMAGES, '{"prompt": "a", "nvext": {"guidance_scale": 1e400}}', "nvext.guidance_scale"),
        (VIDEOS, '{"prompt": "a", "seconds": 1e400}', "seconds"),
        (VIDEOS, '{"prompt": "a", "nvext": {"boundary_ratio": 1e400}}', "nvext.boundary_ratio"),
    ],
)
async def test_a_number_beyond_all_bounds_is_named(client: httpx.AsyncClient, path: str, body: str, param: str) -> None:
    assert error_of(await client.post(path, content=body, headers=JSON), 400)["param"] == param


async def test_a_message_says_what_is_allowed(client: httpx.AsyncClient) -> None:
    for path, field, value, allowed in (
        (IMAGES, "response_format", "png", ("'url'", "'b64_json'")),
        (IMAGES, "output_format", "gif", ("'png'", "'jpeg'", "'webp'")),
        (IMAGES, "quality", "best", ("'standard'", "'hd'", "'auto'")),
        (IMAGES, "size", "big", ("WIDTHxHEIGHT", "auto")),
        (IMAGES, "size", "9x9", ("64", "256")),
        (IMAGES, "n", 5, ("at most 4", "limits.n")),
        (IMAGES, "input_reference", 5, ("https", "data URL", "image_url")),
        (VIDEOS, "output_format", "avi", ("'mp4'",)),
        (VIDEOS, "seconds", 10**350, ("at most 20", "limits.seconds")),
        (CHAT, "max_completion_tokens", 10**6, ("at most 256", "limits.max_tokens")),
        (CHAT, "stop", 5, ("a string or a list of strings",)),
        (CHAT, "stop", ["a"] * 5, ("at most 4 items",)),
        (CHAT, "messages", [{"role": "robot", "content": "a"}], ("'system'", "'user'", "'assistant'")),
        (CHAT, "tool_choice", "required", ("'none'", "'auto'")),
        (COMPLETIONS, "best_of", 2, ("not be above n",)),
    ):
        message = error_of(await client.post(path, json={**GOOD[path], field: value}), 400)["message"]
        assert all(word in message for word in allowed), message
        assert "Input" not in message


async def test_what_a_caller_sent_is_not_repeated_at_length(client: httpx.AsyncClient) -> None:
    long = "x" * 100_000
    answers = [
        await client.post(CHAT, json={**GOOD[CHAT], "model": long}),
        await client.post(CHAT, json={**GOOD[CHAT], "nvext": {long: 1}}),
        await client.post(CHAT, json={**GOOD[CHAT], "stop": [long]}),
        await client.post(IMAGES, json={**GOOD[IMAGES], "size": long}),
        await client.post(IMAGES, files={long: (None, "a")}),
        await client.post(IMAGES, files=[(long[:200], (None, "a")), (long[:200], (None, "a"))]),
        await client.post(CHAT, content="{}", headers={"content-type": long[:30_000]}),
        await client.get(f"/{long[:30_000]}"),
        await client.get(f"/v1/models/{long[:30_000]}"),
    ]
    for answer in answers:
        assert 400 <= answer.status_code < 500
        assert len(answer.content) < 2000


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


# --- headers and paths ----------------------------------------------------------------------------------------------


async def test_hostile_headers_do_not_reach_the_answer(serving: Serving, client: httpx.AsyncClient) -> None:
    with serving(access={"hosts": ["*"]}) as running:
        async with running.client() as open_to_all:
            for host, scheme in (
                ('evil"><script>', "http"),
                ("a b", "http"),
                ("x" * 300, "http"),
                ("127.0.0.1:1", "javascript"),
                ("127.0.0.1:1", "http, https"),
            ):
                headers = {"host": host, "x-forwarded-proto": scheme}
                url = (await open_to_all.post(IMAGES, json=GOOD[IMAGES], headers=headers)).json()["data"][0]["url"]
                assert url.startswith("http://127.0.0.1:")
    for value in (b"\xff\xfe", b"a\tb", b"%0d%0aSet-Cookie: a=b", b"x" * 1000):
        answer = await client.post(CHAT, json=GOOD[CHAT], headers=[(b"x-request-id", value), (b"traceparent", value)])
        assert answer.status_code == 200
        assert answer.headers["x-request-id"].startswith("req_")
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("value", ["9" * 5000, "²", "-1", "1.5", "", "a"])
async def test_a_strange_count_of_retries_is_none(client: httpx.AsyncClient, value: str) -> None:
    headers = [(b"x-stainless-retry-count", value.encode("latin-1")), (b"prefer", b"respond-async")]
    assert (await client.post(VIDEOS, json=GOOD[VIDEOS], headers=headers)).status_code == 200


@pytest.mark.parametrize("value", ["../../etc/passwd", "a/b", "ключ", "\u2028", "%00", "a" * 255])
async def test_any_idempotency_key_is_only_compared(client: httpx.AsyncClient, value: str) -> None:
    headers = [(b"idempotency-key", value.encode()[:255])]
    body = {**GOOD[CHAT], "temperature": 1, "seed": 10**18, "tools": [10**350], "nvext": {"min_p": 2**64}}
    answers = [await client.post(CHAT, json=body, headers=headers) for _ in range(2)]
    assert answers[0].status_code == 200, answers[0].text
    assert answers[0].json() == answers[1].json()


@pytest.mark.parametrize("path", ["/health", "/v1/models", VIDEOS, "/openapi.json"])
@pytest.mark.parametrize("tail", ["%0a", "%00", "%0d%0a", "/", "//", "%20", "%7f", "%2f"])
async def test_a_path_with_a_tail_is_another_path(client: httpx.AsyncClient, path: str, tail: str) -> None:
    error_of(await client.get(path + tail), 404)
    is_a_model = path == "/v1/models" and tail in ("/", "//", "%2f")  # of no name, that is
    error_of(await client.post(path + tail, json=GOOD[VIDEOS]), 405 if is_a_model else 404)


async def test_a_path_forges_no_line_of_the_log(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    access = "serve_app.access"
    with caplog.at_level(logging.INFO, access):
        await client.get("/x%0a2026-01-01 ERROR all is lost%1b[31m")
        async with asyncio.timeout(5):  # the line is written when the answer has gone out
            while not (lines := [one.getMessage() for one in caplog.records if one.name == access]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert lines[0].startswith("GET /x%0A2026-01-01%20ERROR%20all%20is%20lost%1B%5B31m 404 ")


@pytest.mark.parametrize("path", ["/ready", "/health", "/page/main.js"])
async def test_what_is_asked_for_all_the_time_is_no_news(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    access = "serve_app.access"
    with caplog.at_level(logging.INFO, access):
        await client.get(path)
        await client.get("/page/nothing.js")
        async with asyncio.timeout(5):
            while not (lines := [one.getMessage() for one in caplog.records if one.name == access]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert [line[:26] for line in lines] == ["GET /page/nothing.js 404 0"]


# --- slow clients ---------------------------------------------------------------------------------------------------


async def test_clients_that_never_end_their_headers_hold_nobody_up(running: Running) -> None:
    port = httpx.URL(running.url).port
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
    for _, writer in opened:
        writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nX-Slow: ".encode())
    async with running.client() as client:
        await asyncio.wait_for(healthy(client), 10)
    for _, writer in opened:
        writer.close()


async def test_a_body_that_comes_byte_by_byte_is_cut_off(running: Running) -> None:
    async def drops() -> AsyncIterator[bytes]:
        for byte in json.dumps(GOOD[CHAT]).encode():
            yield bytes([byte])
            await asyncio.sleep(0.2)

    async with running.client() as client:
        try:
            error = error_of(await client.post(CHAT, content=drops(), headers=JSON), 400)
            assert "limits.body_timeout_s" in error["message"]
        except httpx.TransportError:
            pass  # it was still sending when the connection was closed


async def test_a_reader_who_does_not_read_holds_nobody_up(running: Running) -> None:
    body = base64.b64encode(b"x" * 60).decode()
    count = [{"role": "user", "content": "Count from 10 to 30."}]
    raw = json.dumps({**GOOD[CHAT], "messages": count, "max_tokens": 96, "stream": True, "user": body}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(running.url).port, limit=1024)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(raw)}\r\n\r\n"
    writer.write(head.encode() + raw)
    await writer.drain()
    async with running.client() as client:
        await asyncio.wait_for(healthy(client), 10)
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
    writer.close()
