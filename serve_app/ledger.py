"""The ledger: a Parquet dataset in the object store with one row per generation, and the sums that `usage` prints.

Rows are kept in memory and written in batches, partitioned by day, each batch as one new object of its own name, so
that replicas never write the same one. A drain writes what is left; a crash may lose the last batch. Knows nothing of
jobs, HTTP or engines.
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import io
import logging
import secrets
import sys
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from serve_app.errors import StorageFailed
from serve_app.files import FileProblem, read_yaml
from serve_app.settings import LedgerSettings, Settings, resolve
from serve_app.storage import open_store
from serve_app.storage.base import ObjectStore, gather
from serve_app.storage.names import is_made_here
from serve_app.tasks import Kind

logger = logging.getLogger(__name__)

FOLDER = "ledger"
DEPLOYMENTS = Path("deployments.yaml")
KEPT_BATCHES = 100
"""How many batches are kept while the store fails. Beyond that the oldest is dropped."""
SUMMED = ("gpu_s", "engine_s", "queue_s", "bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One generation. `time` is when it ended (Unix seconds); `outcome` is completed, cancelled or an error code."""

    time: float
    id: str
    caller: str
    deployment: str
    kind: Kind
    model: str
    parameters: dict[str, Any]
    prompt: str
    outcome: str
    seed: int | None = None
    steps: int | None = None
    queue_s: float = 0.0
    engine_s: float = 0.0
    gpu_s: float = 0.0
    bytes: int = 0
    key: str | None = None


_TYPES = {
    "time": pa.timestamp("us", tz="UTC"),
    **dict.fromkeys(("seed", "steps", "bytes"), pa.int64()),
    **dict.fromkeys(("queue_s", "engine_s", "gpu_s"), pa.float64()),
}
SCHEMA = pa.schema([(field.name, _TYPES.get(field.name, pa.string())) for field in fields(Row)])
"""A file's columns: a row's fields, `parameters` as JSON. Older files lack `deployment`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one caller used of one model on one day (UTC, YYYY-MM-DD)."""

    day: str
    caller: str
    model: str
    kind: str
    generations: int
    failed: int
    engine_s: float
    gpu_s: float
    queue_s: float
    bytes: int


class Ledger:
    """The rows of one process. `add` costs no I/O; a background task writes them."""

    def __init__(self, store: ObjectStore, settings: LedgerSettings) -> None:
        self._store = store
        self._settings = settings
        self._rows: list[Row] = []
        self._batches: dict[str, list[Row]] = {}
        """Rows by the key they are written to, the oldest first. Writing again to the same key never doubles them."""
        self._writing = asyncio.Lock()
        self._full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, row: Row) -> None:
        """Keeps a row for the next batch. Call it on the event loop."""
        if not self._settings.enabled:
            return
        self._rows.append(row)
        if len(self._rows) >= self._settings.flush_rows:
            self._full.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._flush_regularly(), name="ledger")

    async def flush(self) -> None:
        """Writes every kept row. Raises StorageFailed; the rows are kept for the next time."""
        async with self._writing:
            for day, rows in groupby(sorted(self._rows, key=_day_of), _day_of):
                self._batches[_new_key(day)] = list(rows)
            self._rows.clear()
            self._full.clear()
            self._drop_oldest()
            for key, rows in list(self._batches.items()):
                await self._store.put(key, await asyncio.to_thread(_parquet, rows, prompts=self._settings.prompts))
                del self._batches[key]

    async def close(self) -> None:
        """Ends the background task and writes what is left, again if that was at it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        try:
            await self.flush()
        except StorageFailed as error:
            logger.error("ledger: %d rows are lost at shutdown: %s", self._unwritten, error.message)

    async def _flush_regularly(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), self._settings.flush_s)
            try:
                await self.flush()
            except StorageFailed as error:
                logger.warning("ledger: %d rows wait for the store: %s", self._unwritten, error.message)

    @property
    def _unwritten(self) -> int:
        return sum(map(len, self._batches.values()))

    def _drop_oldest(self) -> None:
        lost = max(0, self._unwritten - KEPT_BATCHES * self._settings.flush_rows)
        for _ in range(lost):
            key, rows = next(iter(self._batches.items()))
            del rows[0]
            if not rows:
                del self._batches[key]
        if lost:
            logger.error("ledger: %d rows are lost; the store takes none", lost)


async def usage(store: ObjectStore, since: dt.date, until: dt.date) -> list[Usage]:
    """The sums by day, caller and model of the days from `since` to `until`, both included."""
    ours = [info.key for info in await store.list(FOLDER) if is_made_here(info.key)]  # other files may lie there too
    wanted = [key for key in ours if f"day={since}" <= key.split("/")[1] <= f"day={until}"]
    tables = [table for table in await gather(wanted, partial(_read, store)) if table is not None]
    if not tables:
        return []
    table = pa.concat_tables(tables)
    failed = pa.array([int(outcome != "completed") for outcome in table["outcome"].to_pylist()], pa.int64())
    sums = [("outcome", "count"), ("failed", "sum"), *((name, "sum") for name in SUMMED)]
    keys = ["day", "caller", "model", "kind"]
    grouped = table.append_column("failed", failed).group_by(keys).aggregate(sums)
    named = grouped.rename_columns([*keys, "generations", "failed", *SUMMED])
    ordered = named.sort_by([(name, "ascending") for name in ("day", "caller", "kind", "model")])
    return [Usage(**row) for row in ordered.to_pylist()]


async def _read(store: ObjectStore, key: str) -> pa.Table | None:
    """The rows of one file with their day; a file that cannot be read is left out with a warning."""
    data = pa.BufferReader(await store.get(key))
    try:
        table = pq.read_table(data, columns=["caller", "model", "kind", "outcome", *SUMMED], schema=SCHEMA)
    except pa.ArrowException as error:
        logger.warning("ledger: %s is left out: %s", key, error)
        return None
    return table.append_column("day", pa.repeat(key.split("/")[1].removeprefix("day="), len(table)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `diffusion-serve usage`."""
    today = dt.datetime.now(dt.UTC).date()
    parser.add_argument("config", type=Path, nargs="?", help="deployments file; deployments.yaml where there is one")
    parser.add_argument("--since", type=dt.date.fromisoformat, default=today - dt.timedelta(days=30), metavar="DAY")
    parser.add_argument("--until", type=dt.date.fromisoformat, default=today, metavar="DAY")
    parser.add_argument("--media-root", default="", metavar="URL", help="instead of the one in the deployments file")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """`diffusion-serve usage`: prints what each caller used of each model on each day. Raises FileProblem."""
    settings = _settings(args)
    try:
        rows = asyncio.run(usage(open_store(settings, read_only=True), args.since, args.until))
    except StorageFailed as error:
        raise FileProblem(f"{settings.media.root}: {error.message}") from error
    lines = "".join(f"{orjson.dumps(row).decode()}\n" for row in rows)
    sys.stdout.write(lines if args.json else _table(rows))
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    path, written = args.config or DEPLOYMENTS, dict[str, Any]()
    try:
        if args.config is not None or path.exists():
            applications = read_yaml(path).get("applications") or [{}]
            written = applications[0].get("args") or {}
        if args.media_root:
            written = {**written, "media": {**written.get("media", {}), "root": args.media_root}}
    except (AttributeError, LookupError, TypeError) as error:
        raise FileProblem(f"{path} is no deployments file: `diffusion-serve check {path}` says why") from error
    try:
        settings = Settings.model_validate(written)
    except ValidationError as error:
        first = error.errors()[0]
        raise FileProblem(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    # only media.root matters here, and no profile sets it
    return resolve(settings, "demo" if settings.profile == "auto" else settings.profile)


def _table(rows: list[Usage]) -> str:
    head = ("day", "caller", "model", "kind", "generations", "failed", "engine s", "GPU s", "queue s", "MB")
    body = [
        (
            *(row.day, row.caller, row.model, row.kind, str(row.generations), str(row.failed)),
            *(f"{row.engine_s:.1f}", f"{row.gpu_s:.1f}", f"{row.queue_s:.1f}", f"{row.bytes / 1e6:.2f}"),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    form = "  ".join(f"{{:{side}{width}}}" for side, width in zip("<<<<>>>>>>", widths, strict=True))
    return "".join(f"{form.format(*line).rstrip()}\n" for line in (head, *body))


def _day_of(row: Row) -> str:
    return dt.datetime.fromtimestamp(row.time, dt.UTC).date().isoformat()


def _new_key(day: str) -> str:
    now = dt.datetime.now(dt.UTC)
    return f"{FOLDER}/day={day}/{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(6)}.parquet"


def _parquet(rows: list[Row], *, prompts: bool) -> bytes:
    columns = [
        {
            **asdict(row),
            "time": dt.datetime.fromtimestamp(row.time, dt.UTC),
            "parameters": orjson.dumps(row.parameters).decode(),
            "prompt": row.prompt if prompts else None,
        }
        for row in rows
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(columns, schema=SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()
