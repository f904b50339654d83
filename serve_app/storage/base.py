"""What every object store promises: keys, the Protocol, and content types. Knows no file system and no S3."""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import PurePosixPath
from types import CoroutineType
from typing import Any, ParamSpec, Protocol, TypeVar

from serve_app.errors import AlreadyExists, ObjectNotFound, StorageFailed
from serve_app.tasks import StoredObject
from serve_app.telemetry import metrics

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

CHUNK_BYTES = 256 * 1024
"""How much `open` reads at a time."""
AT_ONCE = 16
"""How many objects or jobs are looked at, or deleted, at the same time."""

# `=` is for the ledger's day=YYYY-MM-DD folders. No segment begins with a dot: the stores keep their own files there.
_SEGMENT = r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,199}"
_KEY = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*", re.ASCII)
_LONGEST_KEY = 900  # S3 allows 1024 bytes with the root's prefix before it

_CONTENT_TYPES = {
    ".png": "image/png",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
}


def timed(operation: Callable[P, Awaitable[T]]) -> "Callable[P, CoroutineType[Any, Any, T]]":
    """Decorates a store's operation so that telemetry times it under its name, and notes whether it failed.

    That there is no such object, or one already, is an answer.
    """

    @wraps(operation)
    async def timing(*args: P.args, **kwargs: P.kwargs) -> T:
        began, outcome = time.perf_counter(), "ok"
        try:
            return await operation(*args, **kwargs)
        except BaseException as error:
            outcome = "ok" if isinstance(error, ObjectNotFound | AlreadyExists) else "failed"
            raise
        finally:
            took_s = time.perf_counter() - began
            metrics.observe("storage_seconds", took_s, operation=operation.__name__, outcome=outcome)

    return timing


def content_type_of(key: str) -> str:
    """The content type that a key's extension stands for."""
    return _CONTENT_TYPES.get(PurePosixPath(key).suffix, "application/octet-stream")


def check_key(key: str) -> None:
    """Raises ObjectNotFound unless `key` is one that we could have made: nothing a caller sends becomes a path."""
    if not is_key(key):
        raise ObjectNotFound("There is no such object.")


def is_key(key: str) -> bool:
    """Whether we could have made `key`, or a name in one; others (`lost+found`, .DS_Store) are left alone."""
    return len(key) <= _LONGEST_KEY and _KEY.fullmatch(key) is not None


def folder_of(prefix: str) -> str:
    """`prefix` as a folder: "" for the root, else checked and ending in a slash."""
    folder = prefix.strip("/")
    if not folder:
        return ""
    check_key(folder)
    return folder + "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """An object as it lies in the store. `size` in bytes, `modified` in Unix seconds."""

    key: str
    size: int
    modified: float

    @property
    def content_type(self) -> str:
        """What the key's extension stands for."""
        return content_type_of(self.key)


class ObjectStore(Protocol):
    """Objects by key below `media.root`. LocalStore and S3Store implement it.

    An object appears under its key whole or not at all. Errors are StorageFailed (what went wrong is in the log, not
    in the message) and ObjectNotFound. Calls that fail for a passing reason are tried again inside.
    """

    local: bool
    """True: no one but us serves the objects, at /v1/media/, where keys begin with media/."""

    async def warm_up(self) -> None:
        """Removes what killed writers left and learns what the server can do. Optional; may be repeated."""
        ...

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        """Writes an object; with `if_absent` raises AlreadyExists where the key is taken."""
        ...

    async def get(self, key: str) -> bytes: ...

    def open(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Streams the bytes [start, end) in chunks of about CHUNK_BYTES."""
        ...

    async def stat(self, key: str) -> ObjectInfo: ...

    async def exists(self, key: str) -> bool: ...

    async def list(self, prefix: str) -> list[ObjectInfo]:
        """Everything of ours below the folder `prefix`, sorted by key."""
        ...

    async def list_names(self, prefix: str) -> "list[str]":
        """The names of files and folders of ours directly in the folder `prefix`, sorted."""
        ...

    async def delete(self, *keys: str) -> None:
        """Deletes objects; absent keys are no error."""
        ...

    def url(self, key: str, *, expires_s: float) -> str:
        """A URL that fetches the object as it stands, for `expires_s` seconds; needs no network.

        From a local store without `media.public_url` it is absolute in its path only ("/v1/media/..."): the ingress
        puts before it the address that the caller used.
        """
        ...


async def gather(items: Sequence[S], call: Callable[[S], Awaitable[T]]) -> Sequence[T]:
    """Calls `call` for each item, AT_ONCE at a time. Results are in order; the first error cancels the rest."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(item: S) -> T:
        async with room:
            return await call(item)

    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(one(item)) for item in items]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from failed.exceptions[0].__cause__
    return [task.result() for task in running]


async def check_store(store: ObjectStore, root: str) -> None:
    """Writes, reads and deletes a small object. Raises StorageFailed that names `root` and the cause, for operators.

    Called before a replica counts as healthy: with a wrong key each request would fail at its end.
    """
    key, data = f"probe/{secrets.token_hex(8)}", secrets.token_bytes(8)
    try:
        await store.put(key, data)
        read = await store.get(key)
        await store.delete(key)
    except (StorageFailed, ObjectNotFound) as error:
        cause = f" {error.__cause__}" if error.__cause__ else ""
        raise StorageFailed(f"media.root '{root}' does not work: {error.message}{cause}") from error
    if read != data:
        raise StorageFailed(f"media.root '{root}' does not work: it gives back other bytes than were written.")
