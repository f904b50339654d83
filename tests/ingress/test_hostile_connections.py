"""Headers, paths and slow connections of a caller who means harm: nothing of them is told on, and nobody waits."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.ingress.conftest import Running, Serving
from tests.ingress.endpoints import CHAT, GOOD, JSON, VIDEOS, error_of, healthy
from tests.ingress.images import IMAGES

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
