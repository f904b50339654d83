"""The store in a folder: its URLs, what it leaves on the disk, a full disk and a kill, and who may read its files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from serve_app.errors import Forbidden, StorageFailed
from serve_app.settings import Settings
from serve_app.storage import open_store
from serve_app.storage.local import LocalStore
from tests.storage.conftest import settings


@pytest.mark.parametrize("keys", ["keys_env", "keys_file"])
async def test_local_url_is_signed_only_with_keys_on(
    keys: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path.as_uri()
    assert open_store(settings(root)).url("media/x.png", expires_s=60) == "/v1/media/x.png"
    keyed = settings(root).model_copy(update={"access": settings(root).access.model_copy(update={keys: "KEYS"})})
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


async def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "mé dia#1"
    await open_store(settings(folder.as_uri())).put("media/x.png", b"x")
    assert (folder / "media/x.png").read_bytes() == b"x"


def test_replicas_that_start_at_once_sign_with_one_secret(tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path) for _ in range(16)]
    together = threading.Barrier(len(stores))

    def ask(store: LocalStore) -> bytes:
        together.wait()
        return store.own_secret()

    with ThreadPoolExecutor(len(stores)) as pool:
        assert len(set(pool.map(ask, stores))) == 1


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
