"""Bodies on their way in: their type, their size, and clients that send slowly or leave."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from serve_app.ingress.asgi import create_http_app
from tests.ingress.conftest import Running, Serving
from tests.ingress.endpoints import CHAT, HELLO, JSON, error_of
from tests.ingress.images import IMAGES


@pytest.mark.parametrize(
    ("content_type", "path"),
    [
        ("text/plain", CHAT),
        ("", CHAT),
        ("application/x-www-form-urlencoded", CHAT),
        ("multipart/form-data; boundary=x", CHAT),
        ("application/jsonp", IMAGES),
        ("application/xml", IMAGES),
    ],
)
async def test_other_content_types_are_415(client: httpx.AsyncClient, content_type: str, path: str) -> None:
    answer = await client.post(path, content=json.dumps(HELLO), headers={"content-type": content_type})
    assert "application/json" in error_of(answer, 415)["message"]


async def test_a_content_type_may_have_parameters(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    answer = await client.post(CHAT, content=json.dumps(HELLO), headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"a": NaN}',
        b'{"model": "a", "model": "b"}',
        b'{"prompt": "\\udfff"}',
        b"\xff\xfe{}",
        b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b"{" + b",".join(b'"f%d": 1' % i for i in range(10_000)) + b"}",
    ],
)
async def test_hostile_json_is_400_and_the_server_goes_on(client: httpx.AsyncClient, body: bytes) -> None:
    for path in (CHAT, "/v1/completions", IMAGES):
        assert error_of(await client.post(path, content=body, headers=JSON), 400)["type"] == "invalid_request_error"
    assert (await client.get("/health")).status_code == 200


async def test_a_large_body_is_413_however_it_is_sent(client: httpx.AsyncClient) -> None:
    body = json.dumps(HELLO | {"user": "x" * 5 * 1024 * 1024}).encode()
    error = error_of(await client.post(CHAT, content=body, headers=JSON), 413)
    assert "limits.body_bytes" in error["message"]

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    error_of(await client.post(CHAT, content=chunks(), headers=JSON), 413)


async def test_an_endless_body_ends(running: Running) -> None:
    """A client that never stops sending is cut off, and others are served meanwhile."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65536

    async with running.client() as client:
        with pytest.raises(httpx.TransportError):
            raise httpx.ReadError((await client.post(CHAT, content=endless(), headers=JSON)).text)
        assert (await client.get("/health")).status_code == 200


async def test_no_more_than_twice_the_limit_is_read(running: Running) -> None:
    """limits.body_bytes is 4 MiB here. What was read is held no longer than until it is too much."""
    chunk, read = b" " * 65536, 0
    sent: list[Any] = []
    held: set[int] = set()

    async def receive() -> Any:
        nonlocal read
        read += len(chunk)
        if read > 5 * 1024 * 1024:
            held.add(scope["state"]["bodies"].bytes)
        if read > 2**25:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": CHAT, "headers": headers, "query_string": b""}
    await create_http_app(running.services)(scope, receive, send)
    assert (sent[0]["status"], read) == (413, 8 * 1024 * 1024 + len(chunk))
    assert (b"connection", b"close") in sent[0]["headers"]
    assert held == {0}


async def test_a_slow_body_is_400_and_holds_nobody_up(running: Running) -> None:
    """limits.body_timeout_s is 2 s here; the body of this client never ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(running.url).port)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    writer.write(head.encode() + b'{"a"')
    await writer.drain()
    async with running.client() as client:
        assert (await client.post(CHAT, json=HELLO)).status_code == 200
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer.lower()
    assert b"limits.body_timeout_s" in await reader.read()  # to the end: what comes late is no next request
    writer.close()


async def test_a_client_that_leaves_in_the_middle_of_its_body_harms_no_one(running: Running) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(running.url).port)
    writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode())
    writer.write(b'Content-Length: 1000\r\n\r\n{"a"')
    await writer.drain()
    writer.close()
    async with running.client() as client:
        assert (await client.get("/health")).status_code == 200


class LostRequest(Exception):
    """What Serve's receive may raise: Ray's own, once the proxy has forgotten the request."""


@pytest.mark.parametrize("pieces", [0, 1])
async def test_a_client_that_serve_has_lost_is_no_error_of_ours(
    running: Running, caplog: pytest.LogCaptureFixture, pieces: int
) -> None:
    app = create_http_app(running.services, behind_serve=True)
    left = [{"type": "http.request", "body": b'{"a"', "more_body": True}] * pieces

    async def receive() -> Any:
        if left:
            return left.pop()
        raise LostRequest

    async def send(message: Any) -> None:
        raise AssertionError(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers, "query_string": b"", "scheme": "http"}
    with caplog.at_level(logging.INFO):
        await app(scope, receive, send)
    assert [record.getMessage().split(" 0.")[0] for record in caplog.records] == [f"POST {CHAT} 499"]


async def test_bodies_share_a_budget(serving: Serving) -> None:
    """While one is held the other has no room, and when that is gone there is room again."""
    with serving(limits={"bodies_bytes": 150_000, "body_timeout_s": 30}) as running:
        large = json.dumps(HELLO | {"metadata": "x" * 99_000}).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(running.url).port)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(large)}\r\n\r\n".encode() + large[:-1])
        await writer.drain()
        async with running.client() as client:
            async with asyncio.timeout(20):
                while (answer := await client.post(CHAT, content=large, headers=JSON)).status_code == 200:
                    pass  # until what was written has been read
            error = error_of(answer, 429)
            assert (error["code"], answer.headers["retry-after"]) == ("rate_limit_exceeded", "1")
            assert "limits.bodies_bytes" in error["message"]
            assert (await client.post(CHAT, json=HELLO)).status_code == 200
            writer.close()
            async with asyncio.timeout(20):
                while (await client.post(CHAT, content=large, headers=JSON)).status_code != 200:
                    pass
