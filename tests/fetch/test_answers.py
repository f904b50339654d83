"""What is taken of a server's answer: its status, its bytes, its picture and its time."""

from __future__ import annotations

import asyncio
import gzip
import time

import pytest

from serve_app.errors import InvalidRequest
from serve_app.fetch import fetch_image
from serve_app.settings import FetchSettings, RequestLimits
from tests.fetch.conftest import LIMITS, LOCAL, PNG, Server, ok


@pytest.mark.parametrize("status", [204, 304, 401, 404, 500])
async def test_other_answers_are_refused(server: Server, status: int) -> None:
    server.pages["/a"] = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
    with pytest.raises(InvalidRequest, match=str(status)):
        await fetch_image(f"{server.base}/a", LOCAL, LIMITS)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + PNG[:50],
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        ok(PNG[:-20]),
        ok(b"<html></html>", "Content-Type: image/png\r\n"),
        ok(b""),
    ],
)
async def test_broken_answers_are_refused(server: Server, answer: bytes) -> None:
    server.pages["/a"] = answer
    with pytest.raises(InvalidRequest):
        await fetch_image(f"{server.base}/a", LOCAL, LIMITS)


async def test_compressed_answers_are_not_unpacked(server: Server) -> None:
    server.pages["/a"] = ok(gzip.compress(PNG), "Content-Encoding: gzip\r\n")
    with pytest.raises(InvalidRequest, match="must be a PNG"):
        await fetch_image(f"{server.base}/a", LOCAL, LIMITS)


async def test_bytes_are_counted_whatever_the_header_says(server: Server) -> None:
    sent = 0

    async def endless(path: str, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + PNG)
        while sent < 50_000_000:
            writer.write(b"\0" * 10_000)
            await writer.drain()
            sent += 10_000

    server.pages["/a"] = endless
    with pytest.raises(InvalidRequest, match="100000 bytes"):
        await fetch_image(f"{server.base}/a", LOCAL, LIMITS)
    assert sent < 20_000_000


async def test_pixels_are_limited(server: Server) -> None:
    with pytest.raises(InvalidRequest, match="pixels"):
        await fetch_image(f"{server.base}/x.png", LOCAL, RequestLimits(image_bytes=100_000, image_pixels=48 * 32 - 1))


async def test_one_time_limit_for_all_of_it(server: Server) -> None:
    async def drip(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            writer.write(b"\0")
            await writer.drain()
            await asyncio.sleep(0.1)

    server.pages["/a"] = drip
    began = time.monotonic()
    with pytest.raises(InvalidRequest, match="within 1 s"):
        await fetch_image(f"{server.base}/a", FetchSettings(allow_hosts=("localhost",), timeout_s=1), LIMITS)
    assert time.monotonic() - began < 8


async def test_what_follows_the_picture_is_cut_off(server: Server) -> None:
    server.pages["/a"] = ok(PNG + b"PK\x03\x04<script>")
    assert (await fetch_image(f"{server.base}/a", LOCAL, LIMITS)).data == PNG
