"""The ledger over real stores: what was added is what `usage` sums."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import secrets
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serve_app import ledger
from serve_app.errors import StorageFailed
from serve_app.ledger import KEPT_BATCHES, Ledger, Row, usage
from serve_app.settings import LedgerSettings, Settings
from serve_app.storage import open_store
from serve_app.storage.local import LocalStore
from tests.s3_server import S3Server

NOON = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC).timestamp()
DAY = 86400.0


def row(**changes: Any) -> Row:
    values: dict[str, Any] = {
        "time": NOON,
        "id": "img_1",
        "deployment": "image",
        "caller": "public",
        "kind": "image",
        "model": "demo/flux-tiny",
        "parameters": {"width": 64},
        "prompt": "a secret garden",
        "outcome": "completed",
        "seed": 7,
        "steps": 4,
        "queue_s": 0.5,
        "engine_s": 2.0,
        "gpu_s": 4.0,
        "bytes": 1000,
        "key": "media/public/x.png",
    }
    return Row(**{**values, **changes})


def files(store: LocalStore) -> list[Path]:
    return sorted(store.root.rglob("*.parquet"))


async def sums(store: Any, since: str = "2026-11-01", until: str = "2026-11-30") -> list[ledger.Usage]:
    return await usage(store, dt.date.fromisoformat(since), dt.date.fromisoformat(until))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "media")


@pytest.fixture(params=["file", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    root = (tmp_path / "media").as_uri()
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        root = f"s3://{server.bucket}/ledger-{secrets.token_hex(4)}"
    return open_store(Settings.model_validate({"media": {"root": root}}))


async def test_sums_by_day_caller_and_model(any_store: Any) -> None:
    book = Ledger(any_store, LedgerSettings())
    for each in (
        row(),
        row(caller="alice"),
        row(outcome="engine_died", bytes=0, key=None),
        row(kind="text", model="demo/llada2-tiny", seed=None, key=None),
        row(time=NOON + DAY),
    ):
        book.add(each)
    await book.close()
    found = await sums(any_store)
    assert [(each.day, each.caller, each.kind, each.generations, each.failed) for each in found] == [
        ("2026-11-23", "alice", "image", 1, 0),
        ("2026-11-23", "public", "image", 2, 1),
        ("2026-11-23", "public", "text", 1, 0),
        ("2026-11-24", "public", "image", 1, 0),
    ]
    both = found[1]
    assert (both.engine_s, both.gpu_s, both.queue_s, both.bytes) == (4.0, 8.0, 1.0, 1000)
    only = await sums(any_store, "2026-11-24", "2026-11-24")
    assert [each.day for each in only] == ["2026-11-24"]


async def test_other_peoples_files_are_no_usage(store: LocalStore, caplog: pytest.LogCaptureFixture) -> None:
    book = Ledger(store, LedgerSettings())
    book.add(row())
    await book.close()
    [ours] = files(store)
    pq.write_table(pa.table({"time": ["noon"], "caller": [1]}), ours.with_name("theirs.parquet"))
    pq.write_table(pa.table({"x": [1]}), store.root / "ledger" / "export.parquet")
    (ours.parent / "notes.txt").write_text("x")
    assert [each.generations for each in await sums(store)] == [1]
    assert caplog.messages == []
    # a name like ours with something else in it is told and left out
    broken = ours.with_name(ours.name.replace(ours.name[-20:], "0123456789ab.parquet"))
    broken.write_bytes(b"PAR1 and no more")
    assert [each.generations for each in await sums(store)] == [1]
    assert [broken.name in text for text in caplog.messages if "left out" in text] == [True]


async def test_an_empty_store_has_no_usage(any_store: Any) -> None:
    assert await sums(any_store) == []


async def test_a_row_says_all_but_the_prompt(store: LocalStore) -> None:
    book = Ledger(store, LedgerSettings())
    book.add(row())
    await book.close()
    [path] = files(store)
    assert path.parent.name == "day=2026-11-23"
    assert b"secret" not in path.read_bytes()
    [read] = pq.ParquetFile(path).read().to_pylist()
    assert read == {
        "time": dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC),
        "id": "img_1",
        "caller": "public",
        "deployment": "image",
        "kind": "image",
        "model": "demo/flux-tiny",
        "parameters": '{"width":64}',
        "prompt": None,
        "seed": 7,
        "steps": 4,
        "queue_s": 0.5,
        "engine_s": 2.0,
        "gpu_s": 4.0,
        "bytes": 1000,
        "key": "media/public/x.png",
        "outcome": "completed",
    }


async def test_prompts_go_in_when_the_settings_say_so(store: LocalStore) -> None:
    book = Ledger(store, LedgerSettings(prompts=True))
    book.add(row())
    await book.close()
    assert pq.ParquetFile(files(store)[0]).read(["prompt"]).to_pylist() == [{"prompt": "a secret garden"}]


async def test_full_batches_are_written_at_once(store: LocalStore) -> None:
    book = Ledger(store, LedgerSettings(flush_rows=3))
    for _ in range(3):
        book.add(row())
    async with asyncio.timeout(10):
        while not files(store):  # noqa: ASYNC110 a folder has no event
            await asyncio.sleep(0.02)
    book.add(row())
    await book.close()
    assert [pq.ParquetFile(path).metadata.num_rows for path in files(store)] == [3, 1]


async def test_few_rows_are_written_after_a_while(store: LocalStore) -> None:
    book = Ledger(store, LedgerSettings(flush_s=0.05))
    book.add(row())
    async with asyncio.timeout(10):
        while not files(store):  # noqa: ASYNC110 a folder has no event
            await asyncio.sleep(0.02)
    await book.close()


async def test_nothing_is_written_when_it_is_off(store: LocalStore) -> None:
    book = Ledger(store, LedgerSettings(enabled=False))
    book.add(row())
    await book.close()
    assert files(store) == []


async def test_two_processes_never_write_the_same_file(store: LocalStore) -> None:
    books = [Ledger(store, LedgerSettings()) for _ in range(8)]
    for book in books:
        book.add(row())
    await asyncio.gather(*(book.close() for book in books))
    assert (await sums(store))[0].generations == 8


async def test_rows_wait_for_a_store_that_fails(store: LocalStore) -> None:
    book = Ledger(store, LedgerSettings(flush_rows=2))
    blocked = store.root / "ledger"
    blocked.write_text("a file where the folder should be")
    for number in range(3):
        book.add(row(time=NOON + number * DAY))
    with pytest.raises(StorageFailed):
        await book.flush()
    blocked.unlink()
    await book.close()
    assert len(await sums(store)) == 3


async def test_a_row_is_written_once_whenever_the_writing_is_cut_off(store: LocalStore) -> None:
    books = [Ledger(store, LedgerSettings()) for _ in range(20)]
    for number, book in enumerate(books):
        book.add(row())
        writing = asyncio.create_task(book.flush())
        await asyncio.sleep(number / 2000)
        writing.cancel()
        await asyncio.wait([writing])
        await book.close()
    assert (await sums(store))[0].generations == len(books)


async def test_a_row_is_written_once_when_the_ledger_closes_at_that_moment(store: LocalStore) -> None:
    books = [Ledger(store, LedgerSettings(flush_s=0.005)) for _ in range(20)]
    for number, book in enumerate(books):
        book.add(row())
        await asyncio.sleep(number / 2000)
        await book.close()
    assert (await sums(store))[0].generations == len(books)


async def test_no_more_rows_are_kept_than_fit(store: LocalStore) -> None:
    book = Ledger(store, LedgerSettings(flush_rows=1))
    (store.root / "ledger").write_text("")
    for number in range(KEPT_BATCHES + 5):
        book.add(row(id=f"{number}"))
    with pytest.raises(StorageFailed):
        await book.flush()
    (store.root / "ledger").unlink()
    await book.close()
    ids = [each["id"] for path in files(store) for each in pq.ParquetFile(path).read(["id"]).to_pylist()]
    assert ids == [f"{number}" for number in range(5, KEPT_BATCHES + 5)]


class TestCommand:
    @pytest.fixture
    async def config(self, tmp_path: Path, store: LocalStore) -> Path:
        book = Ledger(store, LedgerSettings())
        book.add(row())
        book.add(row(outcome="cancelled"))
        await book.close()
        path = tmp_path / "deployments.yaml"
        path.write_text(json.dumps({"applications": [{"args": {"media": {"root": store.root.as_uri()}}}]}))
        return path

    async def run(self, *arguments: str) -> int:
        parser = argparse.ArgumentParser()
        ledger.add_arguments(parser)
        return await asyncio.to_thread(ledger.run, parser.parse_args(arguments))

    async def test_prints_a_table(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert await self.run(str(config), "--since", "2026-11-01", "--until", "2026-11-30") == 0
        head, line = capsys.readouterr().out.splitlines()
        assert head.split()[:6] == ["day", "caller", "model", "kind", "generations", "failed"]
        assert line.split() == [
            "2026-11-23",
            "public",
            "demo/flux-tiny",
            "image",
            "2",
            "1",
            "4.0",
            "8.0",
            "1.0",
            "0.00",
        ]

    async def test_prints_json(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert await self.run(str(config), "--since", "2026-11-01", "--until", "2026-11-30", "--json") == 0
        [line] = capsys.readouterr().out.splitlines()
        assert json.loads(line)["gpu_s"] == 8.0
