"""The object store on S3 and what speaks like it. Knows botocore, no HTTP server.

botocore's calls block, and hash and copy large bodies: they run in threads, never on the server's event loop.
"""

import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as UnreachableError

from serve_app.environment import S3Access
from serve_app.errors import AlreadyExists, ObjectNotFound, ServeError, StorageFailed
from serve_app.retry import retry
from serve_app.storage.base import (
    CHUNK_BYTES,
    ObjectInfo,
    check_key,
    content_type_of,
    folder_of,
    gather,
    is_key,
    timed,
)
from serve_app.tasks import StoredObject
from serve_app.telemetry import metrics
from serve_app.threads import Pool

T = TypeVar("T")
log = logging.getLogger(__name__)

_PIECE_BYTES = 4 * 1024 * 1024
"""How much `open` asks the server for at a time."""
_LONGEST_SIGNATURE_S = 7 * 86400  # S3's own limit
_CALLS = Pool("s3", 64)  # many, since a server that is silent holds each for up to half a minute
_UPLOADS = Pool("s3-uploads", 12)  # of large bodies fewer, for hashing many at once stalls the event loop
_CONFIG = Config(
    signature_version="s3v4",
    connect_timeout=5,
    read_timeout=30,
    max_pool_connections=64,
    # we retry ourselves: nested retries would multiply
    retries={"total_max_attempts": 1, "mode": "standard"},
    # botocore's newer default checksums are refused by servers that do not know them yet
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)

# Writes wait longer, because a finished generation is expensive: long enough for a server restart.
_WRITE_PATIENCE_S = 30.0
_READ_PATIENCE_S = 12.0

_FAILURES = (ClientError, BotoCoreError, OSError)
"""All that an S3 client raises for reasons outside this program."""

_ABSENT = {"NoSuchKey", "NoSuchVersion", "NoSuchUpload", "404"}
_TAKEN = {"PreconditionFailed", "412"}
# besides those that have a status of the server's own (5xx) or 429
_PASSING = {
    "BadDigest",
    "ConditionalRequestConflict",
    "OperationAborted",
    "RequestTimeout",
    "Throttling",
    "XAmzContentSHA256Mismatch",
}


class S3Store:
    """Objects below `s3://bucket/prefix`."""

    local = False

    def __init__(self, bucket: str, prefix: str, access: S3Access, *, public_url: str | None = None) -> None:
        self.conditional_writes: bool | None = None
        """Whether the server honours `If-None-Match: *`; None until it was tried."""
        self._bucket = bucket
        self._folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._public_url = public_url.rstrip("/") if public_url else None
        made = partial(botocore.session.get_session().create_client, "s3", **asdict(access))
        self._client: Any = made(config=_CONFIG)
        # urllib3 bounds each send by the time for connecting: a server may pause longer within a large body
        self._uploads: Any = made(config=_CONFIG.merge(Config(connect_timeout=30)))

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
            await self._request("put_object", key, _WRITE_PATIENCE_S, **arguments)
        except AlreadyExists:
            # the object may come from an earlier attempt of ours whose answer was lost
            if await self.get(key) != data:
                raise
        return StoredObject(key=key, content_type=content_type, size=len(data))

    @timed
    async def get(self, key: str) -> bytes:
        return (await self._request("get_object", key, _READ_PATIENCE_S))["Body"]

    async def open(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        head = await self._request("head_object", key, _READ_PATIENCE_S)
        size: int = head["ContentLength"]
        end = size if end is None else min(end, size)
        for at in range(start, end, _PIECE_BYTES):
            part = {"Range": f"bytes={at}-{min(at + _PIECE_BYTES, end) - 1}", "IfMatch": head["ETag"]}
            try:
                piece: bytes = (await self._request("get_object", key, _READ_PATIENCE_S, **part))["Body"]
            except AlreadyExists as exc:
                raise StorageFailed("The object was replaced while it was read.") from exc
            for chunk_at in range(0, len(piece), CHUNK_BYTES):
                yield piece[chunk_at : chunk_at + CHUNK_BYTES]

    @timed
    async def stat(self, key: str) -> ObjectInfo:
        head = await self._request("head_object", key, _READ_PATIENCE_S)
        return ObjectInfo(key=key, size=head["ContentLength"], modified=head["LastModified"].timestamp())

    async def exists(self, key: str) -> bool:
        check_key(key)
        with contextlib.suppress(ObjectNotFound):
            await self._request("head_object", key, _READ_PATIENCE_S)
            return True
        return False

    @timed
    async def list(self, prefix: str) -> list[ObjectInfo]:
        listed = await self._listed(folder_of(prefix))
        below = {item["Key"].removeprefix(self._folder): item for item in listed.get("Contents", [])}
        return [
            ObjectInfo(key=key, size=item["Size"], modified=item["LastModified"].timestamp())
            for key, item in sorted(below.items())
            if is_key(key)
        ]

    async def list_names(self, prefix: str) -> "list[str]":
        folder = folder_of(prefix)
        listed = await self._listed(folder, Delimiter="/")
        paths = [item["Key"] for item in listed.get("Contents", [])]
        paths += [item["Prefix"].removesuffix("/") for item in listed.get("CommonPrefixes", [])]
        names = {path.removeprefix(self._folder + folder) for path in paths}
        return sorted(name for name in names if is_key(name))

    @timed
    async def delete(self, *keys: str) -> None:
        for key in keys:
            check_key(key)

        async def delete_one(key: str) -> None:
            with contextlib.suppress(ObjectNotFound):
                await self._request("delete_object", key, _WRITE_PATIENCE_S)

        # one by one: DeleteObjects needs a checksum header on which servers disagree
        await gather(keys, delete_one)

    def url(self, key: str, *, expires_s: float) -> str:
        check_key(key)
        if self._public_url:
            return f"{self._public_url}/{key}"
        named = {"Bucket": self._bucket, "Key": self._folder + key, "ResponseContentType": content_type_of(key)}
        lifetime = min(int(expires_s), _LONGEST_SIGNATURE_S)
        try:
            return str(self._client.generate_presigned_url("get_object", Params=named, ExpiresIn=lifetime))
        except BotoCoreError as exc:
            raise _translated(exc, f"signing {key}") from exc

    async def _request(self, method: str, key: str, patience_s: float, **arguments: Any) -> dict[str, Any]:
        """One call of the S3 client, its body read, tried again while failures may pass; `key` below the root."""
        check_key(key)
        arguments["Key"] = self._folder + key
        large = len(arguments.get("Body", b"")) > CHUNK_BYTES
        client, pool = (self._uploads, _UPLOADS) if large else (self._client, _CALLS)
        return await _retried(f"{method} {key}", partial(self._call, client, method, arguments), patience_s, pool)

    def _call(self, client: Any, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        answer = getattr(client, method)(Bucket=self._bucket, **arguments)
        if method == "get_object":
            with contextlib.closing(answer["Body"]) as body:  # its own `with` would raise urllib3's errors
                answer["Body"] = body.read()
        return answer

    async def _listed(self, folder: str, **arguments: Any) -> dict[str, Any]:
        """All pages of a listing in one."""

        whole: dict[str, Any] = {"Contents": [], "CommonPrefixes": []}
        arguments["Prefix"] = self._folder + folder
        while True:  # each page has its own patience: a long listing must not begin anew for one that failed
            call = partial(self._call, self._client, "list_objects_v2", arguments.copy())
            page = await _retried(f"list {folder}", call, _READ_PATIENCE_S, _CALLS)
            for kind, found in whole.items():
                found += page.get(kind, [])
            if not page.get("IsTruncated"):
                return whole
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    async def _learn_conditional_writes(self) -> bool:
        """Writes an object twice under `If-None-Match: *`; a server that knows the header refuses the second."""
        if self.conditional_writes is None:
            key = f"probe/{secrets.token_hex(8)}"
            try:
                for _ in range(2):
                    await self._request("put_object", key, _WRITE_PATIENCE_S, Body=b"", IfNoneMatch="*")
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


def _code_of(exc: BaseException) -> str:
    """S3's error code ("NoSuchKey"; for a HEAD the status, "404"); empty for other errors."""
    return str(exc.response.get("Error", {}).get("Code", "")) if isinstance(exc, ClientError) else ""


def _passing(exc: BaseException) -> bool:
    """Whether the same request may well succeed a moment later."""
    if isinstance(exc, ClientError):
        status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return _code_of(exc) in _PASSING or status == 429 or (status >= 500 and status != 501)
    return isinstance(exc, (HTTPClientError, IncompleteReadError, UnreachableError, OSError))


def _translated(exc: BaseException, what: str) -> ServeError:
    """Our error for one of _FAILURES. The cause goes to the log: it names hosts, buckets and access keys."""
    code = _code_of(exc)
    if code in _ABSENT:
        return ObjectNotFound("There is no such object.")
    if code in _TAKEN:
        return AlreadyExists("The key is taken.")
    log.error("storage: %s: %s", what, exc)
    return StorageFailed("The object store does not answer." if _passing(exc) else "The object store refused.")


async def _retried(what: str, call: Callable[[], T], patience_s: float, pool: Pool) -> T:
    """What `call` returns in a thread of `pool`. Retries failures that may pass, until `patience_s` is over."""

    def passes(error: Exception, wait_s: float) -> bool:
        if not _passing(error):
            return False
        log.warning("storage: %s failed, again in %.1f s: %s", what, wait_s, error)
        metrics.add("retries", what="storage")
        return True

    try:
        return await retry(lambda: pool.run(call), passes, patience_s=patience_s)
    except _FAILURES as error:
        raise _translated(error, what) from error
