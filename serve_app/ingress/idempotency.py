"""Runs a request that is sent twice only once: by `Idempotency-Key`, and for retries of OpenAI's clients without one.

Claims lie in the object store, so that any ingress replica finds them. Requests are compared as parsed: validated
fields and the digest of each file, never bytes, for a client draws a new multipart boundary on each retry. A request
that failed is run again, not replayed. A stream with a key runs whole, and its events are made from its result.
"""

import asyncio
import hashlib
import json
import logging
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import GenericAlias
from typing import Any, Generic, NamedTuple, TypeVar

import orjson
from pydantic import ConfigDict, TypeAdapter
from starlette.requests import Request

from serve_app.errors import InvalidRequest, JobNotFound, ObjectNotFound, StorageFailed
from serve_app.ingress.body import off_loop
from serve_app.jobs.claims import Claim, Claims
from serve_app.jobs.records import Job
from serve_app.jobs.store import JobStore
from serve_app.protocol.common import Wire
from serve_app.settings import JobSettings
from serve_app.storage.base import ObjectStore

T = TypeVar("T")
Maker = Callable[[], Awaitable[T]]
Finder = Callable[[Claim], Awaitable[T | None]]
logger = logging.getLogger("serve_app.ingress")

HEADER = "Idempotency-Key"
RETRY_HEADER = "x-stainless-retry-count"
"""Sent by OpenAI's clients with every request, 0 on the first: they resend without an idempotency key."""
RETRIES = re.compile("[0-9]{1,4}")
RETRY_WINDOW_S = 600.0
MAX_KEY_CHARS = 255
ON_ITS_WAY_S = 5.0
"""How long to wait for the job of another request that has claimed the key."""
POLL_S = 0.2


async def fingerprint(request: Request, asked: Wire) -> str:
    """Equal for equal requests: same path, same parsed fields, same file contents."""

    def digest() -> str:
        parsed = asked.model_dump(mode="json", exclude_none=True)
        files = {name: [hashlib.sha256(file).hexdigest() for file in each] for name, each in asked.raw.files.items()}
        # orjson cannot: a number in a request may have more than 64 bits
        canonical = json.dumps([request.url.path, parsed, files], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    return await off_loop(digest, request.state.bodies.bytes)


class Made(NamedTuple, Generic[T]):
    """A result with the id and time of the request that made it."""

    id: str
    created_at: float
    result: T


class Idempotency:
    """There is one per ingress process; all that it knows lies in the store."""

    def __init__(self, store: ObjectStore, jobs: JobStore, settings: JobSettings) -> None:
        self._store = store
        self._jobs = jobs
        self._claims = Claims(jobs)
        self._settings = settings

    async def job(self, request: Request, asked: Wire, id: str, make: Maker[Job]) -> Job:
        """The job of an earlier equal request, else the new one that `make` stores under this id."""
        owner: str = request.state.caller.owner

        async def find(claim: Claim) -> Job | None:
            with suppress(JobNotFound):
                return await self._jobs.get(owner, claim.job_id)

        if (key := key_of(request)) is not None:
            return (await self._once(request, asked, key, id, make, find, ON_ITS_WAY_S))[1]
        if RETRIES.fullmatch(retries := request.headers.get(RETRY_HEADER, "")):
            print_ = await fingerprint(request, asked)
            return await self._retried_job(owner, int(retries) > 0, print_, id, make)
        return await make()

    async def result(self, request: Request, asked: Wire, kind: type[T], id: str, make: Maker[T]) -> Made[T]:
        """The result of an earlier equal request, waiting for it if it still runs; else that of `make`.

        `kind` is a dataclass, or a list of one: it is kept as JSON for as long as media are. Where the request has no
        key this costs nothing.
        """
        key = key_of(request)
        if key is None:
            return Made(id, time.time(), await make())
        owner: str = request.state.caller.owner
        # pydantic accepts this configuration for a tuple but not for a dataclass; it stores bytes as base64
        config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
        one_tuple: Any = GenericAlias(tuple, (kind,))
        kept: TypeAdapter[tuple[T]] = TypeAdapter(one_tuple, config=config)

        async def make_and_keep() -> T:
            result = await make()
            await self._store.put(_name(owner, id), kept.dump_json((result,)))
            return result

        async def find(claim: Claim) -> T | None:
            with suppress(ObjectNotFound):
                return kept.validate_json(await self._store.get(_name(owner, claim.job_id)))[0]

        claim, result = await self._once(request, asked, key, id, make_and_keep, find, self._settings.stale_s)
        return Made(claim.job_id, claim.created_at, result)

    async def _once(
        self, request: Request, asked: Wire, key: str, id: str, make: Maker[T], find: Finder[T], patience_s: float
    ) -> tuple[Claim, T]:
        """Claims the key for what `make` makes, or waits for what `find` finds of the request that holds it.

        One without a heartbeat for `patience_s` is passed over, and so is a failed job. Raises InvalidRequest if the
        key was used for another request, even a failed one.
        """
        owner: str = request.state.caller.owner
        print_ = await fingerprint(request, asked)
        found: T | None = None

        async def can_be_passed(held: Claim) -> bool:
            nonlocal found
            if held.fingerprint != print_:
                return False
            if (found := await find(held)) is not None:
                return isinstance(found, Job) and found.status == "failed"
            alive_at = held.created_at
            with suppress(ObjectNotFound):
                alive_at = (await self._store.stat(_name(owner, f"{held.job_id}-beat"))).modified
            return await self._jobs.now() - alive_at > patience_s

        while not (claim := await self._claims.claim(owner, key, print_, id, can_be_passed)).fresh:
            if claim.fingerprint != print_:
                raise InvalidRequest(f"This {HEADER} was used for another request; use a new one.", param=HEADER)
            if found is not None:
                return claim, found
            await asyncio.sleep(POLL_S)
        beating = asyncio.create_task(self._beat(owner, id))
        try:
            return claim, await make()
        except BaseException:  # including cancellation: Serve cancels the handler when the client goes away
            await asyncio.shield(asyncio.create_task(self._claims.release(owner, key, claim)))
            raise
        finally:
            beating.cancel()
            await asyncio.wait([beating])

    async def _beat(self, owner: str, id: str) -> None:
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            try:
                await self._store.put(_name(owner, f"{id}-beat"), b"{}")
            except StorageFailed as error:
                logger.warning("no heartbeat for %s: %s", id, error.message)

    async def _retried_job(self, owner: str, is_retry: bool, print_: str, id: str, make: Maker[Job]) -> Job:
        """A first try notes its job by the request's fingerprint; a retry looks it up."""
        name = _name(owner, hashlib.sha256(f"retry {print_}".encode()).hexdigest())
        if is_retry:
            with suppress(ObjectNotFound, JobNotFound):
                before = orjson.loads(await self._store.get(name))
                job = await self._jobs.get(owner, before["job_id"])
                if job.status != "failed" and await self._jobs.now() - before["created_at"] <= RETRY_WINDOW_S:
                    return job
        await self._store.put(name, orjson.dumps({"job_id": id, "created_at": await self._jobs.now()}))
        return await make()


def _name(owner: str, id: str) -> str:
    return f"idempotency/{owner}/{id}.json"


def key_of(request: Request) -> str | None:
    """The idempotency key of a request; None where it has none. Raises InvalidRequest for one that is too long."""
    key = request.headers.get(HEADER)
    if key is not None and not 1 <= len(key) <= MAX_KEY_CHARS:
        raise InvalidRequest(f"{HEADER} must have 1 to {MAX_KEY_CHARS} characters.", param=HEADER)
    return key
