"""The lease of a dispatcher: an object that says when it was last alive, however many jobs it looks after.

Ingress replicas and the sweeper are dispatchers. Jobs of one whose lease has run out are the sweeper's.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import orjson

from serve_app.errors import ObjectNotFound, StorageFailed
from serve_app.settings import JobSettings
from serve_app.storage.base import ObjectStore
from serve_app.waiting import finish

logger = logging.getLogger(__name__)


class Lease:
    """The lease that the dispatcher `id` holds."""

    def __init__(self, store: ObjectStore, id: str, settings: JobSettings) -> None:
        self.id = id
        self._store = store
        self._settings = settings
        self._renewed_at: float | None = None
        self._patient_until = float("-inf")
        # if our lease is this old, one renewed just before it may have run out
        self._cut_off_s = settings.stale_s - settings.heartbeat_s

    async def renew(self) -> None:
        """Also one that is cancelled is written before it ends, or it could come after `resign` and undo it."""
        written = self._store.put(_key(self.id), orjson.dumps({"beat_at": time.time()}))  # read by the release before
        await finish(asyncio.ensure_future(written), lambda: None)
        now = time.monotonic()
        if self._renewed_at is not None and now - self._renewed_at > self._cut_off_s:
            # the store was away: others could not renew theirs either, so they get the usual time again
            self._patient_until = now + self._settings.stale_s
        self._renewed_at = now

    async def keep(self, is_needed: Callable[[], bool] = lambda: True) -> None:
        """Renews the lease at every heartbeat for as long as it is needed."""
        await asyncio.sleep(self._settings.heartbeat_s)
        while is_needed():
            try:
                await self.renew()
            except StorageFailed as error:
                logger.warning("the lease of %s was not renewed: %s", self.id, error.message)
            await asyncio.sleep(self._settings.heartbeat_s)

    async def resign(self) -> None:
        """Ends the lease: what its holder looked after is the sweeper's at once."""
        await self._store.delete(_key(self.id))

    @property
    def is_due(self) -> bool:
        """Whether the last renewal is a heartbeat old, or there was none."""
        return self._renewed_at is None or time.monotonic() - self._renewed_at > self._settings.heartbeat_s

    @property
    def may_judge(self) -> bool:
        """Whether silence of others means that they died. Not while, or just after, this lease ran out too."""
        now = time.monotonic()
        fresh = self._renewed_at is not None and now - self._renewed_at <= self._cut_off_s
        return fresh and now >= self._patient_until


async def read_lease(store: ObjectStore, id: str) -> float | None:
    """When a dispatcher was last heard of, by the store's clock; None where it has resigned."""
    try:
        return (await store.stat(_key(id))).modified
    except ObjectNotFound:
        return None


def _key(id: str) -> str:
    return f"dispatchers/{id}.json"
