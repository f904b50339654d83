"""Reads an object of S3 piece by piece."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from botocore.exceptions import ClientError

from serve_app.errors import AlreadyExists, StorageFailed
from serve_app.storage.base import CHUNK_BYTES
from serve_app.storage.retries import READ_PATIENCE_S, code_of, retried

GetObject = Callable[[str, dict[str, str]], Awaitable[dict[str, Any]]]
"""Sends one GetObject for a key with these headers. The caller reads its `Body`."""


class Download:
    """A ranged read that resumes after a broken connection. Runs on the IO thread."""

    def __init__(self, get_object: GetObject, key: str, start: int, end: int | None) -> None:
        self._get_object = get_object
        self._key = key
        self._position = start
        self._end = end
        self._body: Any = None
        self._version: dict[str, str] = {}

    async def read(self) -> bytes:
        """The next CHUNK_BYTES or fewer; empty at the end."""
        if self._end is not None and self._position >= self._end:
            return b""
        try:
            chunk = await retried(f"get_object {self._key}", self._read_once, READ_PATIENCE_S)
        except AlreadyExists as exc:
            raise StorageFailed("The object was replaced while it was read.") from exc
        self._position += len(chunk)
        return chunk

    def close(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    async def _read_once(self) -> bytes:
        try:
            body = self._body or await self._connect()
            chunk = bytearray()
            while len(chunk) < CHUNK_BYTES:
                more = await body.read(CHUNK_BYTES - len(chunk))
                if not more:
                    break
                chunk += more
            return bytes(chunk)
        except ClientError as exc:
            if code_of(exc) in ("InvalidRange", "416"):  # begins at or past the end
                return b""
            raise
        except BaseException:
            self.close()
            raise

    async def _connect(self) -> Any:
        wanted = dict(self._version)
        if self._position or self._end is not None:
            last = "" if self._end is None else self._end - 1
            wanted["Range"] = f"bytes={self._position}-{last}"
        response = await self._get_object(self._key, wanted)
        self._version = {"IfMatch": response["ETag"]}
        self._body = response["Body"]
        return self._body
