"""The object store's clock, by which all ages are judged.

Readers' own clocks need not agree. One that was a minute ahead would take every live attempt for dead. So a reader
writes an object of its own now and then, looks when the store says that was, and counts on from there. Knows no jobs.
"""

import asyncio
import logging
import secrets
import time

from serve_app.errors import StorageFailed
from serve_app.storage.base import ObjectStore

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 600.0
LOOK_AGAIN_S = 30.0


class StoreClock:
    """There is one per process and store. Changes of this machine's wall clock do not move it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._ahead_s: float | None = None
        """The store's Unix time less our counter."""
        self._look_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    async def now(self) -> float:
        """The store's Unix time, rather a little late than early. Raises StorageFailed if it was never learned."""
        if _counter() >= self._look_at:
            # one look for all callers: in turn, each would wait half a minute for a store that is silent
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
            if self._ahead_s is None:
                await asyncio.shield(self._looking)
        assert self._ahead_s is not None, "a look gives it or raises"
        return _counter() + self._ahead_s

    async def _look(self) -> None:
        folder = f"clock/{secrets.token_hex(8)}"
        try:
            await self._store.put(f"{folder}/now", b"")
            written = _counter()
            [info] = await self._store.list(folder)
            await self._store.delete(info.key)
        except StorageFailed as error:
            if self._ahead_s is None:
                raise
            logger.warning("the store does not tell its time, counting on: %s", error.message)
            self._look_at = _counter() + LOOK_AGAIN_S
            return
        # as if written at the end of the call: nothing must look older than it is
        self._ahead_s = info.modified - written
        self._look_at = written + LOOK_EVERY_S


def _counter() -> float:
    """Seconds that also pass while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
