"""The object store on S3 and what speaks like it. Knows s3fs and botocore, no HTTP server.

All traffic runs on fsspec's own IO thread: on the server's event loop the hashing and copying of large bodies would
hold up every other request. The methods here wait for that thread; private coroutines run on it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from fsspec.asyn import get_loop
from s3fs import S3FileSystem

from serve_app.environment import S3Access
from serve_app.errors import AlreadyExists, ObjectNotFound, StorageFailed
from serve_app.storage.base import (
    ObjectInfo,
    check_key,
    content_type_of,
    folder_of,
    is_key,
    is_name,
    timed,
)
from serve_app.storage.download import Download
from serve_app.storage.names import is_made_here
from serve_app.storage.retries import (
    READ_PATIENCE_S,
    WRITE_PATIENCE_S,
    retried,
    translated,
)
from serve_app.tasks import StoredObject

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

T = TypeVar("T")
log = logging.getLogger(__name__)

PART_BYTES = 8 * 1024 * 1024
"""Objects larger than two parts go up in parts."""
_PARTS_AT_ONCE = 4
_DELETES_AT_ONCE = 16
_LEFTOVER_S = 86400.0
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
        await self._on_io_thread(self._learn_conditional_writes())
        await self._on_io_thread(self._abort_leftovers())

    @timed
    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        check_key(key)
        content_type = content_type_of(key)
        await self._on_io_thread(self._put(key, data, {"ContentType": content_type}, if_absent))
        return StoredObject(key=key, content_type=content_type, size=len(data))

    @timed
    async def get(self, key: str) -> bytes:
        check_key(key)
        return await self._on_io_thread(self._get(key))

    async def open(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        check_key(key)
        download = Download(self.get_object, key, start, end)
        try:
            while chunk := await self._on_io_thread(download.read()):
                yield chunk
        finally:
            self._io.call_soon_threadsafe(download.close)

    @timed
    async def stat(self, key: str) -> ObjectInfo:
        check_key(key)
        return await self._on_io_thread(self._stat(key))

    async def exists(self, key: str) -> bool:
        try:
            await self.stat(key)
        except ObjectNotFound:
            return False
        return True

    @timed
    async def list(self, prefix: str) -> list[ObjectInfo]:
        folder = folder_of(prefix)
        pages = await self._on_io_thread(self._pages(folder))
        infos = [self._info(item) for page in pages for item in page.get("Contents", [])]
        return sorted((info for info in infos if is_key(info.key)), key=lambda info: info.key)

    async def list_names(self, prefix: str) -> list[str]:
        folder = folder_of(prefix)
        pages = await self._on_io_thread(self._pages(folder, Delimiter="/"))
        paths = [item["Key"] for page in pages for item in page.get("Contents", [])]
        paths += [item["Prefix"].removesuffix("/") for page in pages for item in page.get("CommonPrefixes", [])]
        names = {path.removeprefix(self._folder + folder) for path in paths}
        return sorted(name for name in names if is_name(name))

    @timed
    async def delete(self, *keys: str) -> None:
        for key in keys:
            check_key(key)
        await self._on_io_thread(self._delete(keys))

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

    def arrow(self) -> tuple[FileSystem, str]:
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        return PyFileSystem(FSSpecHandler(self._files)), f"{self._bucket}/{self._folder}".rstrip("/")

    # --- on the IO thread ---

    def _on_io_thread(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """What `work` gives, run on the IO thread; cancelling this cancels it there, where it still cleans up."""
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._io))

    async def get_object(self, key: str, wanted: dict[str, str]) -> dict[str, Any]:
        """One GetObject, not tried again: its `Body` is still to be read."""
        client = await self._files.set_session()
        return await client.get_object(Bucket=self._bucket, Key=self._folder + key, **wanted)

    async def request(self, method: str, key: str | None, patience_s: float, **arguments: Any) -> dict[str, Any]:
        """One call of the S3 client, tried again while its failures may pass; `key` below the root."""
        if key is not None:
            arguments["Key"] = self._folder + key

        async def once() -> dict[str, Any]:
            client = await self._files.set_session()
            return await getattr(client, method)(Bucket=self._bucket, **arguments)

        return await retried(f"{method} {key or ''}", once, patience_s)

    async def _put(self, key: str, data: bytes, headers: dict[str, Any], if_absent: bool) -> None:
        if if_absent and not await self._learn_conditional_writes() and await self._present(key):
            raise AlreadyExists("The key is taken.")
        if if_absent and self.conditional_writes:
            headers = headers | {"IfNoneMatch": "*"}
        if len(data) <= 2 * PART_BYTES:
            await self._put_whole(key, data, headers)
            return
        try:
            await self._put_parts(key, data, headers)
        except ObjectNotFound:
            log.warning("storage: the server forgot the upload of %s (a restart?); beginning it anew", key)
            await self._put_parts(key, data, headers)

    async def _put_whole(self, key: str, body: bytes, headers: dict[str, Any]) -> None:
        attempts: list[float] = []

        async def once() -> None:
            attempts.append(time.monotonic())
            client = await self._files.set_session()
            await client.put_object(Bucket=self._bucket, Key=self._folder + key, Body=body, **headers)

        try:
            await retried(f"put_object {key}", once, WRITE_PATIENCE_S)
        except AlreadyExists:
            # the object may come from an earlier attempt of ours whose answer was lost
            if len(attempts) == 1 or await self._get(key) != body:
                raise

    async def _put_parts(self, key: str, data: bytes, headers: dict[str, Any]) -> None:
        condition = {"IfNoneMatch": headers["IfNoneMatch"]} if "IfNoneMatch" in headers else {}
        headers = {name: value for name, value in headers.items() if name != "IfNoneMatch"}
        beginning = asyncio.create_task(self.request("create_multipart_upload", key, WRITE_PATIENCE_S, **headers))
        try:
            upload = {"UploadId": (await asyncio.shield(beginning))["UploadId"]}
            parts = await self._upload_parts(key, data, upload)
            await self._complete(key, len(data), upload | {"MultipartUpload": {"Parts": parts}} | condition)
        except BaseException:
            # in a task of its own: a second cancel must not stop the clean-up
            await asyncio.shield(asyncio.create_task(self._abort_begun(key, beginning)))
            raise

    async def _upload_parts(self, key: str, data: bytes, upload: dict[str, Any]) -> list[Any]:
        slots = asyncio.Semaphore(_PARTS_AT_ONCE)

        async def one(number: int) -> dict[str, Any]:
            async with slots:
                body = data[(number - 1) * PART_BYTES : number * PART_BYTES]
                sent = await self.request("upload_part", key, WRITE_PATIENCE_S, PartNumber=number, Body=body, **upload)
                return {"PartNumber": number, "ETag": sent["ETag"]}

        try:
            async with asyncio.TaskGroup() as group:
                count = -(-len(data) // PART_BYTES)
                tasks = [group.create_task(one(number)) for number in range(1, count + 1)]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from failed.exceptions[0].__cause__
        return [task.result() for task in tasks]

    async def _complete(self, key: str, size: int, arguments: dict[str, Any]) -> None:
        try:
            await self.request("complete_multipart_upload", key, WRITE_PATIENCE_S, **arguments)
        except ObjectNotFound:
            # an attempt may have succeeded although its answer was lost; the next one then gets "no such upload"
            if (await self._stat(key)).size != size:
                raise

    async def _abort_begun(self, key: str, beginning: asyncio.Task[dict[str, Any]]) -> None:
        """Aborts an upload that was cancelled, even while its creation was still on the way."""
        try:
            upload_id = (await beginning)["UploadId"]
        except StorageFailed:
            return
        await self._abort(key, upload_id)

    async def _abort(self, key: str, upload_id: str) -> None:
        try:
            await self.request("abort_multipart_upload", key, READ_PATIENCE_S, UploadId=upload_id)
        except ObjectNotFound:
            log.debug("storage: upload %s of %s is over", upload_id, key)
        except StorageFailed as exc:
            log.error("storage: upload %s of %s is left for the next start's sweep: %s", upload_id, key, exc.message)

    async def _get(self, key: str) -> bytes:
        async def once() -> bytes:
            response = await self.get_object(key, {})
            async with response["Body"] as body:
                return await body.read()

        return await retried(f"get_object {key}", once, READ_PATIENCE_S)

    async def _stat(self, key: str) -> ObjectInfo:
        head = await self.request("head_object", key, READ_PATIENCE_S)
        return ObjectInfo(key=key, size=head["ContentLength"], modified=head["LastModified"].timestamp())

    async def _present(self, key: str) -> bool:
        try:
            await self._stat(key)
        except ObjectNotFound:
            return False
        return True

    async def _pages(self, folder: str, **arguments: Any) -> list[dict[str, Any]]:
        pages: list[dict[str, Any]] = []
        arguments["Prefix"] = self._folder + folder
        while True:
            page = await self.request("list_objects_v2", None, READ_PATIENCE_S, **arguments)
            pages.append(page)
            if not page.get("IsTruncated"):
                return pages
            arguments["ContinuationToken"] = page["NextContinuationToken"]

    async def _delete(self, keys: tuple[str, ...]) -> None:
        slots = asyncio.Semaphore(_DELETES_AT_ONCE)

        async def one(key: str) -> None:
            async with slots:
                try:
                    await self.request("delete_object", key, WRITE_PATIENCE_S)
                except ObjectNotFound:
                    log.debug("storage: %s was deleted before", key)

        # one by one: DeleteObjects needs a checksum header on which servers disagree
        await asyncio.gather(*(one(key) for key in keys))

    async def _learn_conditional_writes(self) -> bool:
        """Writes an object twice under `If-None-Match: *`; a server that knows the header refuses the second."""
        if self.conditional_writes is None:
            key = f"probe/{secrets.token_hex(8)}"
            arguments: dict[str, Any] = {"Body": b"", "IfNoneMatch": "*"}
            try:
                await self.request("put_object", key, WRITE_PATIENCE_S, **arguments)
                await self.request("put_object", key, WRITE_PATIENCE_S, **arguments)
                self.conditional_writes = False
            except AlreadyExists:
                self.conditional_writes = True
            await self._delete((key,))
            if not self.conditional_writes:
                log.warning(
                    "storage: this S3 server ignores If-None-Match: * on writes; "
                    "two equal requests at the same moment may both run (de-duplication is best effort)"
                )
        return self.conditional_writes

    async def _abort_leftovers(self) -> None:
        """Ends the uploads that processes killed more than a day ago never finished; S3 bills for their parts."""
        try:
            answer = await self.request("list_multipart_uploads", None, READ_PATIENCE_S, Prefix=self._folder)
        except (StorageFailed, ObjectNotFound) as error:  # not found: rclone, when one ends while it lists them
            log.warning("storage: unfinished uploads were not listed (%s); a lifecycle rule should end them", error)
            return
        for upload in answer.get("Uploads", []):
            key = upload["Key"].removeprefix(self._folder)
            # others may use the bucket too
            if is_made_here(key) and upload["Initiated"].timestamp() < time.time() - _LEFTOVER_S:
                await self._abort(key, upload["UploadId"])

    def _info(self, item: dict[str, Any]) -> ObjectInfo:
        key = item["Key"].removeprefix(self._folder)
        return ObjectInfo(key=key, size=item["Size"], modified=item["LastModified"].timestamp())
