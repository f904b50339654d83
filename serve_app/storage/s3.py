"""The object store on S3 and what speaks like it. Knows s3fs and botocore, no HTTP server.

All traffic runs on fsspec's own IO thread: on the server's event loop the hashing and copying of large bodies would
hold up every other request. `_request` waits for that thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from fsspec.asyn import get_loop
from s3fs import S3FileSystem

from serve_app.environment import S3Access
from serve_app.errors import AlreadyExists, ObjectNotFound, StorageFailed
from serve_app.storage.base import (
    CHUNK_BYTES,
    ObjectInfo,
    check_key,
    content_type_of,
    folder_of,
    gather,
    is_key,
    is_name,
    timed,
)
from serve_app.storage.retries import (
    READ_PATIENCE_S,
    WRITE_PATIENCE_S,
    retried,
    translated,
)
from serve_app.tasks import StoredObject

log = logging.getLogger(__name__)

_PIECE_BYTES = 4 * 1024 * 1024
"""How much `open` asks the server for at a time."""
_LONGEST_SIGNATURE_S = 7 * 86400  # S3's own limit
_CONFIG: dict[str, Any] = {
    "signature_version": "s3v4",
    "connect_timeout": 5,
    "read_timeout": 30,
    "max_pool_connections": 64,
    # we retry ourselves: nested retries would multiply
    "retries": {"total_max_attempts": 1, "mode": "standard"},
    # botocore's newer default checksums are refused by servers that do not know them yet
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}


class _Files(S3FileSystem):
    @staticmethod
    def close_session(loop: asyncio.AbstractEventLoop, s3: Any) -> None:
        """Closes connections on the loop that made them; s3fs does on whichever runs where the last reference dies."""
        if loop.is_running():
            asyncio.run_coroutine_threadsafe(s3.__aexit__(None, None, None), loop)


class S3Store:
    """Objects below `s3://bucket/prefix`."""

    local = False

    def __init__(self, bucket: str, prefix: str, access: S3Access, *, public_url: str | None = None) -> None:
        self.conditional_writes: bool | None = None
        """Whether the server honours `If-None-Match: *`; None until it was tried."""
        self._bucket = bucket
        self._folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._public_url = public_url.rstrip("/") if public_url else None
        region = access.region or ("us-east-1" if access.endpoint_url else None)
        self._io: asyncio.AbstractEventLoop = get_loop()
        self._files = _Files(
            key=access.key,
            secret=access.secret,
            token=access.token,
            endpoint_url=access.endpoint_url,
            client_kwargs={"region_name": region} if region else {},
            config_kwargs=_CONFIG,
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        # a separate client that never connects, because s3fs would sign on its IO thread
        self._signer: Any = botocore.session.get_session().create_client(
            "s3",
            region_name=region,
            endpoint_url=access.endpoint_url,
            aws_access_key_id=access.key,
            aws_secret_access_key=access.secret,
            aws_session_token=access.token,
            config=Config(**_CONFIG),
        )

    async def warm_up(self) -> None:
        await self._learn_conditional_writes()

    @timed
    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        content_type = content_type_of(key)
        arguments: dict[str, Any] = {"Body": data, "ContentType": content_type}
        if if_absent and await self._learn_conditional_writes():
            arguments["IfNoneMatch"] = "*"
        elif if_absent and await self.exists(key):
            raise AlreadyExists("The key is taken.")
        try:
            await self._request("put_object", key, WRITE_PATIENCE_S, **arguments)
        except AlreadyExists:
            # the object may come from an earlier attempt of ours whose answer was lost
            if await self.get(key) != data:
                raise
        return StoredObject(key=key, content_type=content_type, size=len(data))

    @timed
    async def get(self, key: str) -> bytes:
        return (await self._request("get_object", key, READ_PATIENCE_S))["Body"]

    async def open(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        head = await self._request("head_object", key, READ_PATIENCE_S)
        size: int = head["ContentLength"]
        end = size if end is None else min(end, size)
        for at in range(start, end, _PIECE_BYTES):
            part = {"Range": f"bytes={at}-{min(at + _PIECE_BYTES, end) - 1}", "IfMatch": head["ETag"]}
            try:
                piece: bytes = (await self._request("get_object", key, READ_PATIENCE_S, **part))["Body"]
            except AlreadyExists as exc:
                raise StorageFailed("The object was replaced while it was read.") from exc
            for chunk_at in range(0, len(piece), CHUNK_BYTES):
                yield piece[chunk_at : chunk_at + CHUNK_BYTES]

    @timed
    async def stat(self, key: str) -> ObjectInfo:
        head = await self._request("head_object", key, READ_PATIENCE_S)
        return ObjectInfo(key=key, size=head["ContentLength"], modified=head["LastModified"].timestamp())

    async def exists(self, key: str) -> bool:
        check_key(key)
        try:
            await self._request("head_object", key, READ_PATIENCE_S)
        except ObjectNotFound:
            return False
        return True

    @timed
    async def list(self, prefix: str) -> list[ObjectInfo]:
        found: list[ObjectInfo] = []
        for page in await self._pages(folder_of(prefix)):
            for item in page.get("Contents", []):
                key, modified = item["Key"].removeprefix(self._folder), item["LastModified"].timestamp()
                found.append(ObjectInfo(key=key, size=item["Size"], modified=modified))
        return sorted((info for info in found if is_key(info.key)), key=lambda info: info.key)

    async def list_names(self, prefix: str) -> list[str]:
        folder = folder_of(prefix)
        pages = await self._pages(folder, Delimiter="/")
        paths = [item["Key"] for page in pages for item in page.get("Contents", [])]
        paths += [item["Prefix"].removesuffix("/") for page in pages for item in page.get("CommonPrefixes", [])]
        names = {path.removeprefix(self._folder + folder) for path in paths}
        return sorted(name for name in names if is_name(name))

    @timed
    async def delete(self, *keys: str) -> None:
        for key in keys:
            check_key(key)

        async def delete_one(key: str) -> None:
            with contextlib.suppress(ObjectNotFound):
                await self._request("delete_object", key, WRITE_PATIENCE_S)

        # one by one: DeleteObjects needs a checksum header on which servers disagree
        await gather(keys, delete_one)

    def url(self, key: str, *, expires_s: float) -> str:
        check_key(key)
        if self._public_url:
            return f"{self._public_url}/{key}"
        named = {"Bucket": self._bucket, "Key": self._folder + key, "ResponseContentType": content_type_of(key)}
        lifetime = min(int(expires_s), _LONGEST_SIGNATURE_S)
        try:
            return str(self._signer.generate_presigned_url("get_object", Params=named, ExpiresIn=lifetime))
        except BotoCoreError as exc:
            raise translated(exc, f"signing {key}") from exc

    async def _request(self, method: str, key: str | None, patience_s: float, **arguments: Any) -> dict[str, Any]:
        """One call of the S3 client, its body read, tried again while failures may pass; `key` below the root."""
        if key is not None:
            check_key(key)
            arguments["Key"] = self._folder + key

        async def once() -> dict[str, Any]:
            client = await self._files.set_session()
            answer = await getattr(client, method)(Bucket=self._bucket, **arguments)
            if method == "get_object":
                async with answer["Body"] as body:
                    answer["Body"] = await body.read()
            return answer

        def start() -> asyncio.Future[dict[str, Any]]:
            # cancelling the future cancels the call on the IO thread, where it still cleans up
            return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(once(), self._io))

        return await retried(f"{method} {key or ''}", start, patience_s)

    async def _pages(self, folder: str, **arguments: Any) -> list[dict[str, Any]]:
        pages: list[dict[str, Any]] = []
        arguments["Prefix"] = self._folder + folder
        while True:
            page = await self._request("list_objects_v2", None, READ_PATIENCE_S, **arguments)
            pages.append(page)
            if not page.get("IsTruncated"):
                return pages
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    async def _learn_conditional_writes(self) -> bool:
        """Writes an object twice under `If-None-Match: *`; a server that knows the header refuses the second."""
        if self.conditional_writes is None:
            key = f"probe/{secrets.token_hex(8)}"
            try:
                for _ in range(2):
                    await self._request("put_object", key, WRITE_PATIENCE_S, Body=b"", IfNoneMatch="*")
                self.conditional_writes = False
            except AlreadyExists:
                self.conditional_writes = True
            await self.delete(key)
            if not self.conditional_writes:
                log.warning(
                    "storage: this S3 server ignores If-None-Match: * on writes; "
                    "two equal requests at the same moment may both run (de-duplication is best effort)"
                )
        return self.conditional_writes
