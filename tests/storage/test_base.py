"""What every object store promises, in a folder and on a real S3 server."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serve_app.errors import AlreadyExists, ObjectNotFound, StorageFailed
from serve_app.storage import open_store
from serve_app.storage.base import AT_ONCE, ObjectStore, check_key, check_store, gather
from serve_app.storage.local import LocalStore
from tests.s3_server import S3Server
from tests.storage.conftest import BIG, settings


async def collect(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_put_then_get(store: ObjectStore) -> None:
    stored = await store.put("media/a/x.png", b"bytes")
    assert (stored.key, stored.content_type, stored.size) == ("media/a/x.png", "image/png", 5)
    assert await store.get("media/a/x.png") == b"bytes"
    info = await store.stat("media/a/x.png")
    assert (info.key, info.size, info.content_type) == ("media/a/x.png", 5, "image/png")
    assert abs(info.modified - time.time()) < 60


async def test_put_replaces(store: ObjectStore) -> None:
    await store.put("a.json", b"old and longer")
    await store.put("a.json", b"new")
    assert await store.get("a.json") == b"new"


async def test_large_bytes(store: ObjectStore) -> None:
    data = os.urandom(BIG)
    await store.put("v.mp4", data)
    assert await store.get("v.mp4") == data
    assert (await store.stat("v.mp4")).content_type == "video/mp4"


async def test_if_absent_gives_the_key_to_one(store: ObjectStore) -> None:
    await store.put("idempotency/k", b"first", if_absent=True)
    with pytest.raises(AlreadyExists):
        await store.put("idempotency/k", b"second", if_absent=True)
    assert await store.get("idempotency/k") == b"first"


async def test_absent_objects(store: ObjectStore) -> None:
    for call in (store.get("no/such"), store.stat("no/such"), collect(store.open("no/such"))):
        with pytest.raises(ObjectNotFound):
            await call
    assert not await store.exists("no/such")
    await store.put("folder/x", b"")
    with pytest.raises(ObjectNotFound):
        await store.get("folder")
    with pytest.raises(ObjectNotFound):
        await store.stat("folder")
    assert not await store.exists("folder")
    with pytest.raises(ObjectNotFound):
        await store.get("folder/x/y")


async def test_delete(store: ObjectStore) -> None:
    await store.put("jobs/a/1/request", b"1")
    await store.put("jobs/a/1/cancel", b"1")
    await store.put("jobs/a/2/request", b"1")
    await store.delete("jobs/a/1/request", "jobs/a/1/cancel", "jobs/a/never")
    assert await store.list_names("jobs/a") == ["2"]
    assert not await store.exists("jobs/a/1/request")
    await store.delete("jobs/a/1/request")
    await store.delete()


async def test_lists(store: ObjectStore) -> None:
    assert await store.list("") == []
    assert await store.list_names("none/at/all") == []
    for key in ("jobs/b/1.json", "jobs/a/2.json", "jobs/a/1/request.json", "jobs/ab.json", "other.png"):
        await store.put(key, key.encode())
    infos = await store.list("jobs/a")
    assert [info.key for info in infos] == ["jobs/a/1/request.json", "jobs/a/2.json"]
    assert infos[1].size == len("jobs/a/2.json")
    assert [info.key for info in await store.list("jobs/a/")] == [info.key for info in infos]
    assert await store.list_names("jobs") == ["a", "ab.json", "b"]
    assert await store.list_names("") == ["jobs", "other.png"]
    assert len(await store.list("")) == 5


async def test_open_streams_ranges(store: ObjectStore) -> None:
    data = os.urandom(700_000)
    await store.put("v.mp4", data)
    chunks = [chunk async for chunk in store.open("v.mp4")]
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) <= 256 * 1024
    assert len(chunks) <= 4
    for start, end in [(0, 1), (5, 300_000), (699_999, None), (699_999, 700_000), (100, 100), (0, 10**9)]:
        assert await collect(store.open("v.mp4", start, end)) == data[start:end]
    assert await collect(store.open("v.mp4", 700_000)) == b""
    assert await collect(store.open("v.mp4", 800_000, 900_000)) == b""


async def test_open_can_be_left_early(store: ObjectStore) -> None:
    await store.put("v.mp4", os.urandom(2_000_000))
    for _ in range(3):
        stream = store.open("v.mp4")
        assert len(await anext(stream)) > 0
        await stream.aclose()  # type: ignore[attr-defined]
    assert len(await store.get("v.mp4")) == 2_000_000


TRICKS = [
    "",
    "/etc/passwd",
    "../secret",
    "a/../../secret",
    "a//b",
    "a/",
    "./a",
    "a/./b",
    "a\\..\\b",
    "a\x00b",
    "a b",
    "a\nb",
    "%2e%2e/a",
    "é",
    "a?b",
    "a#b",
    "~/x",
    ".tmp/x",
    ".meta/x",
    ".secret",
    "media/.hidden",
    "x" * 201,
    "/".join(["abcdefghi"] * 91),
]


@pytest.mark.parametrize("key", TRICKS)
async def test_key_tricks(store: ObjectStore, key: str) -> None:
    with pytest.raises(ObjectNotFound):
        check_key(key)
    with pytest.raises(ObjectNotFound):
        await store.put(key, b"x")
    with pytest.raises(ObjectNotFound):
        await store.get(key)
    with pytest.raises(ObjectNotFound):
        await store.stat(key)
    with pytest.raises(ObjectNotFound):
        await anext(store.open(key))
    with pytest.raises(ObjectNotFound):
        await store.delete(key)
    with pytest.raises(ObjectNotFound):
        store.url(key, expires_s=60)


async def test_many_at_once(store: ObjectStore) -> None:
    async def come_and_go(i: int) -> None:
        key = f"jobs/{i % 4}/{i}"
        await store.put(key, b"x" * i)
        assert len(await store.get(key)) == i
        await store.delete(key)

    await asyncio.gather(*(come_and_go(i) for i in range(64)))
    assert await store.list("") == []


async def test_no_more_are_looked_at_together_than_told() -> None:
    together, most = 0, 0

    async def look(item: int) -> int:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0)
        together -= 1
        return item

    assert list(await gather(range(100), look)) == list(range(100))
    assert most == AT_ONCE


class Forgetful(LocalStore):
    """Gives back nothing of what was written."""

    async def get(self, key: str) -> bytes:
        return (await super().get(key))[:0]


async def test_a_store_that_gives_back_other_bytes_does_not_work(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"media.root 'file:///x' does not work: it gives back other bytes"):
        await check_store(Forgetful(tmp_path), "file:///x")


async def test_public_url(s3_server: S3Server, tmp_path: Path) -> None:
    for root in ((tmp_path / "media").as_uri(), f"s3://{s3_server.bucket}/p"):
        store = open_store(settings(root, public_url="https://cdn.example.com/m/"))
        assert store.url("media/a/x.png", expires_s=60) == "https://cdn.example.com/m/media/a/x.png"
