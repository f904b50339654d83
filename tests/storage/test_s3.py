"""The store on S3: presigned URLs, refusals and outages, and conditional writes where the server knows them."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve_app.environment import s3_access
from serve_app.errors import AlreadyExists, StorageFailed
from serve_app.storage.s3 import S3Store
from tests.s3_server import S3Server, free_port
from tests.storage.conftest import BIG


async def test_presigned_url(s3_store: S3Store) -> None:
    await s3_store.put("media/x.png", b"\x89PNG")
    url = s3_store.url("media/x.png", expires_s=60)
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in url
    assert "X-Amz-Expires=60" in url
    async with httpx.AsyncClient() as client:
        answer = await client.get(url)
        assert (answer.status_code, answer.content) == (200, b"\x89PNG")
        assert answer.headers["content-type"] == "image/png"
        part = await client.get(url, headers={"Range": "bytes=1-3"})
        assert part.content == b"PNG"


async def test_presigned_url_tampered_with_is_refused(s3_store: S3Store) -> None:
    await s3_store.put("media/x.png", b"1")
    await s3_store.put("media/y.png", b"2")
    url = s3_store.url("media/x.png", expires_s=60)
    signature = re.search(r"X-Amz-Signature=(\w+)", url)
    assert signature is not None
    flipped = signature[1][:-1] + ("0" if signature[1][-1] != "0" else "1")
    async with httpx.AsyncClient() as client:
        for wrong in (
            url.replace("x.png", "y.png"),
            url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000"),
            url.replace(signature[1], flipped),
            url.split("?")[0],
        ):
            assert (await client.get(wrong)).status_code in (400, 401, 403), wrong
        assert (await client.delete(url)).status_code in (400, 401, 403)
        assert (await client.get(url)).status_code == 200


async def test_presigned_url_expires(s3_store: S3Store) -> None:
    await s3_store.put("media/x.png", b"1")
    short, long = (s3_store.url("media/x.png", expires_s=seconds) for seconds in (1, 60))
    await asyncio.sleep(2.1)
    async with httpx.AsyncClient() as client:
        assert (await client.get(short)).status_code in (400, 403)
        assert (await client.get(long)).status_code == 200


async def test_wrong_secret_fails_without_names_in_the_message(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = S3Store(s3_server.bucket, "p", s3_access())
    with pytest.raises(StorageFailed) as caught:
        await store.put("x.png", b"1")
    assert caught.value.message == "The object store refused."


async def test_outage_in_the_middle_of_uploads_is_survived(s3_server: S3Server, s3_store: S3Store) -> None:
    data = os.urandom(BIG)

    async def upload(i: int) -> None:
        await asyncio.sleep(i * 0.05)
        await s3_store.put(f"m/{i}.mp4", data if i % 10 == 0 else data[: 100_000 + i])

    uploads = asyncio.gather(*(upload(i) for i in range(30)))
    await asyncio.sleep(0.4)
    s3_server.stop()
    await asyncio.sleep(4)
    await asyncio.to_thread(s3_server.start)
    await uploads
    infos = {info.key: info.size for info in await s3_store.list("m")}
    assert infos == {f"m/{i}.mp4": 100_000 + i if i % 10 else BIG for i in range(30)}


async def test_a_server_that_stays_away_is_a_clear_error() -> None:
    access = s3_access()
    gone = type(access)(f"http://127.0.0.1:{free_port()}", "k", "s", None, "us-east-1")
    store = S3Store("bucket", "p", gone)
    began = time.monotonic()
    with pytest.raises(StorageFailed, match=r"^The object store does not answer\.$"):
        await store.get("x.png")
    assert 5 < time.monotonic() - began < 60


async def test_uploads_go_on_while_the_event_loop_is_busy(
    s3_server: S3Server, s3_store: S3Store, tmp_path: Path
) -> None:
    await s3_store.put("first.png", b"")
    upload = asyncio.create_task(s3_store.put("x.png", os.urandom(4 * 1024 * 1024)))
    await asyncio.sleep(0)
    arrived = s3_server.folder / s3_server.bucket / tmp_path.name / "x.png"
    began = time.monotonic()
    while not os.path.exists(arrived) and time.monotonic() - began < 30:  # noqa: ASYNC240 to hold the loop up is the point
        time.sleep(0.01)  # noqa: ASYNC251
    assert not upload.done()
    assert os.path.getsize(arrived) == 4 * 1024 * 1024  # noqa: ASYNC240
    await upload


@pytest.fixture(scope="module")
def moto_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
async def moto_store(moto_endpoint: str, tmp_path: Path) -> S3Store:
    access = type(s3_access())(moto_endpoint, "k", "s", None, "us-east-1")
    bucket = re.sub(r"[^a-z0-9]", "-", tmp_path.name.lower())[-60:].strip("-")
    async with httpx.AsyncClient() as client:
        assert (await client.put(f"{moto_endpoint}/{bucket}")).status_code == 200
    return S3Store(bucket, "prefix", access)


async def test_conditional_writes_are_found_out(
    moto_store: S3Store, s3_store: S3Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    caplog.clear()
    await moto_store.warm_up()
    assert moto_store.conditional_writes is True
    assert caplog.messages == []
    await s3_store.warm_up()
    assert s3_store.conditional_writes is False
    assert len([text for text in caplog.messages if "best effort" in text]) == 1
    assert await s3_store.list("") == []
    assert await moto_store.list("") == []


async def test_if_absent_is_exact_where_the_server_can(moto_store: S3Store) -> None:
    async def claim(i: int) -> str:
        try:
            await moto_store.put("idempotency/k", f"{i}".encode(), if_absent=True)
        except AlreadyExists:
            return "taken"
        return str(i)

    claims = await asyncio.gather(*(claim(i) for i in range(20)))
    winners = [claim for claim in claims if claim != "taken"]
    assert len(winners) == 1
    assert await moto_store.get("idempotency/k") == winners[0].encode()
