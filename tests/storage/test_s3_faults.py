"""The S3 store against a server that breaks off, fails once, or pauses, as a real one does on a bad day."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from serve_app.environment import S3Access
from serve_app.storage.s3 import S3Store

Answer = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PAGE = """<ListBucketResult><IsTruncated>{more}</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>
<Contents><Key>p/m/{name}.png</Key><Size>1</Size><LastModified>2026-11-28T00:00:00.000Z</LastModified></Contents>
</ListBucketResult>"""


@asynccontextmanager
async def playing(answer: Answer) -> AsyncGenerator[S3Store]:
    """A store whose server gives `answer(head of a request, reader of its body, writer)`, one request a connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer((await reader.readuntil(b"\r\n\r\n")).decode(), reader, writer)
            await writer.drain()
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        yield S3Store("bucket", "p", S3Access(f"http://127.0.0.1:{port}", "k", "s", None, "us-east-1"))


def reply(writer: asyncio.StreamWriter, body: bytes, status: str = "200 OK", length: int | None = None) -> None:
    head = f'HTTP/1.1 {status}\r\nETag: "x"\r\nConnection: close\r\nContent-Length: {length or len(body)}\r\n\r\n'
    writer.write(head.encode() + body)


async def test_a_body_that_breaks_off_is_asked_for_again() -> None:
    asked: list[str] = []

    async def answer(head: str, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(head)
        reply(writer, b"z" * (300 if len(asked) == 1 else 1000), length=1000)

    async with playing(answer) as store:
        assert await store.get("m/x.png") == b"z" * 1000
    assert len(asked) == 2


async def test_a_page_of_a_listing_that_fails_is_asked_for_again_alone() -> None:
    asked: list[str] = []

    async def answer(head: str, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        page = next((page for page in "123" if f"continuation-token={page}" in head), "0")
        asked.append(page)
        if page == "2" and asked.count("2") == 1:
            reply(writer, b"<Error><Code>SlowDown</Code></Error>", "503 Slow Down")
        else:
            following = str(int(page) + 1)
            reply(writer, PAGE.format(name=page, next=following, more=str(page != "3").lower()).encode())

    async with playing(answer) as store:
        assert [info.key for info in await store.list("m")] == [f"m/{page}.png" for page in "0123"]
    assert asked == ["0", "1", "2", "2", "3"]


@pytest.mark.slow
async def test_a_server_may_pause_within_a_large_upload() -> None:
    data, asked = bytes(30_000_000), 0

    async def answer(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(1_000_000)
        await asyncio.sleep(6)  # longer than a connection may take
        await reader.readexactly(len(data) - 1_000_000)
        reply(writer, b"")

    async with playing(answer) as store:
        assert (await store.put("m/x.mp4", data)).size == len(data)
    assert asked == 1
