"""Claims of idempotency keys. A claim is an object that is created only if it does not exist yet."""

import hashlib
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from serve_app.errors import AlreadyExists, ObjectNotFound, StorageFailed
from serve_app.jobs.records import dumps, load
from serve_app.jobs.store import JobStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who holds an idempotency key. If `fresh`, we have just claimed it, at `link`."""

    job_id: str
    fingerprint: str
    created_at: float
    fresh: bool = False
    link: str = ""


class Claims:
    """The claims of all owners in one store."""

    def __init__(self, jobs: JobStore) -> None:
        self._store = jobs.store
        self._now = jobs.now

    async def claim(
        self, owner: str, key: str, fingerprint: str, job_id: str, has_failed: Callable[[Claim], Awaitable[bool]]
    ) -> Claim:
        """Claims `key` for `job_id`, or tells who holds it.

        A holder whose work has failed is passed over: the next link of the chain is claimed, by create-if-absent
        again, so that of two retries one wins.
        """
        mine = Claim(job_id=job_id, fingerprint=fingerprint, created_at=await self._now())
        link = key
        jumped = False
        while True:
            name = _name(owner, link)
            with suppress(AlreadyExists):
                await self._store.put(name, dumps(mine), if_absent=True)
                if link != key:
                    await self._note_newest(owner, key, link)
                return replace(mine, fresh=True, link=link)
            try:
                held = load(Claim, await self._store.get(name))
            except ObjectNotFound:
                continue  # it expired in between
            if not await has_failed(held):
                return held
            # a request that failed often has left a long chain: jump from its first link to its newest
            link = _next_link(link, held) if jumped else await self._newest(owner, key) or _next_link(link, held)
            jumped = True

    async def release(self, owner: str, key: str, claim: Claim) -> None:
        """Gives up a fresh claim whose work came to nothing, so that the next request may claim the key."""
        name = _name(owner, claim.link or key)
        with suppress(ObjectNotFound):
            if load(Claim, await self._store.get(name)).job_id == claim.job_id:
                await self._store.delete(name)

    async def _newest(self, owner: str, key: str) -> str | None:
        """The newest link of a key's chain, as far as noted."""
        with suppress(ObjectNotFound):
            return (await self._store.get(_name(owner, f"newest {key}"))).decode()
        return None

    async def _note_newest(self, owner: str, key: str, link: str) -> None:
        try:
            await self._store.put(_name(owner, f"newest {key}"), link.encode())
        except StorageFailed as error:  # the claim still holds; the next one only walks further
            logger.warning("the newest claim of a key was not noted: %s", error.message)


def _name(owner: str, link: str) -> str:
    return f"idempotency/{owner}/{hashlib.sha256(link.encode()).hexdigest()}.json"


def _next_link(link: str, passed_over: Claim) -> str:
    return hashlib.sha256(f"{link}\n{passed_over.job_id}".encode()).hexdigest()
