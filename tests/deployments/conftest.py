"""The deployment classes as they are, in this process, over the demo checkpoints."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from serve_app.deployments.sweeper import Sweep
from serve_app.jobs.store import JobStore
from serve_app.settings import Settings, resolve
from serve_app.storage import open_store
from tests.jobs.conftest import JOBS
from tests.s3_server import S3Server

Configure = Callable[..., Settings]


@asynccontextmanager
async def sweeping(*sweeps: Sweep) -> AsyncGenerator[None]:
    """With these at work, each with its lease, until the end of the block."""
    tasks = [asyncio.create_task(work) for sweep in sweeps for work in (sweep.run(), sweep.lease.keep())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def settled(sweep: Sweep) -> None:
    """Returns when every dispatch so far has ended."""
    held = sweep._held  # pyright: ignore[reportPrivateUsage]
    while held:
        await asyncio.wait(held.values())


@pytest.fixture
def configure(tmp_path: Path, demo_home: Path) -> Configure:
    """Settings of the demo profile with small warm-ups and short times; keyword arguments are laid over them."""

    def settings(**changes: Any) -> Settings:
        values: dict[str, Any] = {
            "home": str(demo_home),
            "media": {"root": (tmp_path / "media").as_uri()},
            "image": {"warm_up_sizes": [[64, 64]]},
            "video": {"warm_up_sizes": [[64, 64, 5]]},
            "jobs": JOBS,
        }
        for name, value in changes.items():
            values[name] = {**values.get(name, {}), **value}
        values["models"] = {kind: values.pop(kind, {}) for kind in ("text", "image", "video")}
        return resolve(Settings.model_validate(values), "demo")

    return settings


@pytest.fixture(params=["file", "s3"])
def any_media(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The `media` settings of a store in a folder, and of one on a real S3 server."""
    if request.param == "file":
        yield {"root": (tmp_path / "media").as_uri()}
        return
    server: S3Server = request.getfixturevalue("s3_server")
    yield {"root": f"s3://{server.bucket}/deployments-{secrets.token_hex(4)}"}
    server.start()


def ledger_rows(settings: Settings) -> list[dict[str, Any]]:
    """Every row of the ledger, oldest first. The root must be a folder."""
    root = Path(settings.media.root.removeprefix("file://"))
    rows = [row for path in sorted(root.rglob("*.parquet")) for row in pq.ParquetFile(path).read().to_pylist()]
    return sorted(rows, key=lambda row: row["time"])


def open_jobs(settings: Settings) -> JobStore:
    return JobStore(open_store(settings), settings)


async def eventually(check: Callable[[], Any], seconds: float = 30.0) -> None:
    """Returns when the awaited `check()` is true."""
    async with asyncio.timeout(seconds):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
