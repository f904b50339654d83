from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from serve_app.environment import s3_access
from serve_app.errors import AlreadyExists, Forbidden, ObjectNotFound, StorageFailed
from serve_app.settings import Settings
from serve_app.storage import open_store
from serve_app.storage.base import ObjectStore, check_key
from serve_app.storage.local import LocalStore
from serve_app.storage.s3 import S3Store
from serve_app.storage.signer import URLSigner
from tests.s3_server import S3Server, free_port

BIG = 17_000_000


def settings(root: str, **media: Any) -> Settings:
    return Settings.model_validate({"media": {"root": root, **media}})


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "file":
        return open_store(settings((tmp_path / "media").as_uri()))
    server: S3Server = request.getfixturevalue("s3_server")
    return open_store(settings(f"s3://{server.bucket}/{tmp_path.name}"))


@pytest.fixture
def s3_store(s3_server: S3Server, tmp_path: Path) -> S3Store:
    return S3Store(s3_server.bucket, tmp_path.name, s3_access())


async def collect(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


# --- what both stores do ---


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


async def test_public_url(s3_server: S3Server, tmp_path: Path) -> None:
    for root in ((tmp_path / "media").as_uri(), f"s3://{s3_server.bucket}/p"):
        store = open_store(settings(root, public_url="https://cdn.example.com/m/"))
        assert store.url("media/a/x.png", expires_s=60) == "https://cdn.example.com/m/media/a/x.png"


# --- files ---


async def test_local_url_is_signed_only_with_keys_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path.as_uri()
    assert open_store(settings(root)).url("media/x.png", expires_s=60) == "/v1/media/x.png"
    keyed = settings(root).model_copy(update={"access": settings(root).access.model_copy(update={"keys_env": "KEYS"})})
    store = open_store(keyed)
    assert isinstance(store, LocalStore)
    url = urlsplit(store.url("media/x.png", expires_s=60))
    query = dict(parse_qsl(url.query))
    store.signer.verify("media/x.png", query)
    # another replica and the next start sign with the same secret
    again = open_store(keyed)
    assert isinstance(again, LocalStore)
    again.signer.verify("media/x.png", query)
    assert (tmp_path / ".secret").stat().st_mode & 0o077 == 0
    monkeypatch.setenv("DIFFUSION_SERVE_SIGNING_KEY", "of my own")
    other = open_store(keyed)
    assert isinstance(other, LocalStore)
    with pytest.raises(Forbidden):
        other.signer.verify("media/x.png", query)


def test_signer_refuses_what_it_did_not_sign() -> None:
    signer = URLSigner(b"secret")
    query = dict(parse_qsl(signer.sign("a.png", time.time() + 60)))
    signer.verify("a.png", query)
    for wrong in (
        query | {"expires": str(int(query["expires"]) + 1)},
        query | {"signature": "é"},
        query | {"signature": ""},
        query | {"expires": "never"},
        {"signature": query["signature"]},
        {"expires": query["expires"]},
        {},
    ):
        with pytest.raises(Forbidden):
            signer.verify("a.png", wrong)
    with pytest.raises(Forbidden):
        signer.verify("b.png", query)
    with pytest.raises(Forbidden):
        URLSigner(b"another").verify("a.png", query)
    with pytest.raises(Forbidden, match="expired"):
        signer.verify("a.png", dict(parse_qsl(signer.sign("a.png", time.time() - 2))))


def test_signer_without_secret_signs_nothing() -> None:
    signer = URLSigner(None)
    assert signer.sign("a.png", time.time() + 60) == ""
    signer.verify("a.png", {})


async def test_deleting_leaves_nothing_behind(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    await store.put("a/b/c/x", b"1")
    await store.delete("a/b/c/x")
    assert sorted(name for _, folders, files in os.walk(tmp_path) for name in folders + files) == [".tmp"]


async def test_start_sweeps_old_temporary_files(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    old, new, strangers = (tmp_path / ".tmp" / name for name in (32 * "a", 32 * "b", "thesis.docx"))
    for file in (old, new, strangers):
        file.touch()
    os.utime(old, (time.time() - 3700, time.time() - 3700))
    os.utime(strangers, (time.time() - 3700, time.time() - 3700))
    await store.warm_up()
    assert (old.exists(), new.exists(), strangers.exists()) == (False, True, True)
    old.touch()
    os.utime(old, (time.time() - 3700, time.time() - 3700))
    LocalStore(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


async def test_a_key_below_an_object_fails_clearly(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    await store.put("a", b"1")
    with pytest.raises(StorageFailed):
        await store.put("a/b", b"1")
    assert list((tmp_path / ".tmp").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting a small tmpfs is not permitted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_full_disk(small_disk: Path) -> None:
    store = LocalStore(small_disk)
    await store.put("old.mp4", b"x" * 600_000)
    for key in ("old.mp4", "new.mp4"):
        with pytest.raises(StorageFailed, match="full"):
            await store.put(key, b"y" * 600_000)
    assert await store.get("old.mp4") == b"x" * 600_000
    assert not await store.exists("new.mp4")
    assert list((small_disk / ".tmp").iterdir()) == []
    await store.delete("old.mp4")
    await store.put("new.mp4", b"y" * 600_000)


def test_kill_in_the_middle_of_puts_leaves_no_half_object(tmp_path: Path) -> None:
    size = 3_000_000
    program = (
        "import asyncio, sys, itertools\n"
        "from pathlib import Path\n"
        "from serve_app.storage.local import LocalStore\n"
        "async def main():\n"
        "    store = LocalStore(Path(sys.argv[1]))\n"
        "    print('ready', flush=True)\n"
        "    for i in itertools.count():\n"
        f"        await asyncio.gather(*(store.put(f'm/{{i}}-{{j}}.mp4', bytes([i % 256]) * {size})"
        " for j in range(3)))\n"
        "        await store.put('same.mp4', bytes([i % 256]) * 1000003)\n"
        "asyncio.run(main())\n"
    )
    for round_ in range(3):
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        deadline = time.monotonic() + 60
        while not (files := _videos_in(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert files
        time.sleep(0.07 * round_)  # a moment of its own for each kill
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for path in _videos_in(tmp_path):
            content = path.read_bytes()
            assert len(content) == (1000003 if path.name == "same.mp4" else size)
            assert content == content[:1] * len(content)


def _videos_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*.mp4"))


# --- S3 ---


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


# --- conditional writes, on a server that knows them ---


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


# --- credentials and endpoint from the environment ---

NAMES = [
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "FSSPEC_S3_KEY", "FSSPEC_S3_SECRET", "FSSPEC_S3_ENDPOINT_URL"),
]


def test_s3_access_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    assert s3_access() == type(s3_access())()
    monkeypatch.setenv("FSSPEC_S3_KEY", "fk")
    monkeypatch.setenv("FSSPEC_S3_SECRET", "fs")
    monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", "http://f")
    access = s3_access()
    assert (access.aws_access_key_id, access.aws_secret_access_key, access.endpoint_url) == ("fk", "fs", "http://f")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ak")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://a")
    access = s3_access()
    assert (access.aws_access_key_id, access.aws_secret_access_key, access.endpoint_url) == ("ak", "hush", "http://a")
    assert "hush" not in repr(access)


async def test_fsspec_names_reach_the_server(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FSSPEC_S3_KEY", "testkey")
    monkeypatch.setenv("FSSPEC_S3_SECRET", "testsecret")
    monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", s3_server.endpoint)
    store = S3Store(s3_server.bucket, "fsspec-names", s3_access())
    await store.put("x.png", b"1")
    async with httpx.AsyncClient() as client:
        assert (await client.get(store.url("x.png", expires_s=60))).content == b"1"


# --- who may read what lies in a folder ---


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize(("mode", "folder"), [(None, 0o700), ("0640", 0o750), ("0o604", 0o705)])
async def test_modes_are_ours_and_not_the_umasks(tmp_path: Path, umask: int, mode: str | None, folder: int) -> None:
    before = os.umask(umask)
    try:
        changes = {} if mode is None else {"mode": mode}
        written = Settings.model_validate(
            {"media": {"root": (tmp_path / "root").as_uri(), **changes}, "access": {"keys_env": "KEYS"}}
        )
        store = open_store(written)
        key = "media/public/2026/01/01/a.png"
        await store.put(key, b"x")
        await store.put("jobs/public/video_1/request.json", b"{}")
        await store.put("idempotency/public/1.json", b"{}", if_absent=True)
    finally:
        os.umask(before)

    root = tmp_path / "root"
    modes = {str(path.relative_to(root)): path.stat().st_mode & 0o777 for path in [root, *root.rglob("*")]}
    media = {name: found for name, found in modes.items() if name.startswith("media/")}
    assert media.pop(key) == int((mode or "0600").removeprefix("0o"), 8)
    assert {modes["."], modes["media"], *media.values()} == {folder}
    others = {name: found for name, found in modes.items() if not name.startswith(("media", "."))}
    hidden = {name: found for name, found in modes.items() if name.startswith(".") and name != "."}
    for name, found in (others | hidden).items():
        assert found == (0o700 if (root / name).is_dir() else 0o600), name
    assert ".secret" in hidden


def test_a_mode_that_is_none() -> None:
    assert settings("file:///a", mode=0o644).media.mode == 0o644  # as YAML reads 0644
    for wrong in ("0400", 600, "rw-r--r--", "1777"):
        with pytest.raises(ValueError, match='such as "0640"'):
            settings("file:///a", mode=wrong)
