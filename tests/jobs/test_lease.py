"""A lease that its holder gives up, whatever it was doing with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from serve_app.jobs.lease import Lease
from serve_app.settings import JobSettings
from serve_app.storage.local import LocalStore
from serve_app.tasks import StoredObject


class Writing(LocalStore):
    """A store whose thread writes when it is told to, though nobody waits for it any more."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def put(self, *args: Any, **kwargs: Any) -> StoredObject:
        self.begun.set()
        return await asyncio.shield(asyncio.create_task(self._put_later(*args, **kwargs)))

    async def _put_later(self, *args: Any, **kwargs: Any) -> StoredObject:
        await self.go_on.wait()
        return await super().put(*args, **kwargs)


async def test_no_renewal_comes_after_a_resignation(tmp_path: Path) -> None:
    store = Writing(tmp_path)
    lease = Lease(store, "d1", JobSettings())
    renewing = asyncio.create_task(lease.renew())
    await store.begun.wait()
    renewing.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not renewing.done(), "what is being written would come late"
    store.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await renewing
    assert await store.list("dispatchers")
    await lease.resign()
    assert await store.list("dispatchers") == []
