"""An equal request that waits, and goes on where the one before it ended half-way."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

from starlette.requests import Request

from serve_app.errors import StorageFailed
from serve_app.ingress.body import Budget, Share
from serve_app.ingress.idempotency import Idempotency, fingerprint
from serve_app.ingress.services import PUBLIC, Services
from serve_app.jobs.store import JobStore
from serve_app.protocol.videos import RemixRequest
from serve_app.settings import JobSettings
from serve_app.storage.local import LocalStore
from serve_app.tasks import StoredObject
from tests.jobs.conftest import claim_key


def asking(key: dict[str, str]) -> Request:
    headers = [(name.lower().encode(), value.encode()) for name, value in key.items()]
    return Request(
        {
            "type": "http",
            "method": "POST",
            "path": "/x",
            "headers": headers,
            "state": {"caller": PUBLIC, "bodies": Share(Budget(1))},
        }
    )


async def test_who_waits_takes_over_from_a_request_that_was_cancelled(services: Services, key: dict[str, str]) -> None:
    # Serve cancels a handler whose client goes away
    once = Idempotency(services.store, services.jobs, JobSettings(stale_s=3600))
    body = RemixRequest(prompt="p")
    began = asyncio.Event()

    async def never() -> StoredObject:
        began.set()
        await asyncio.sleep(3600)
        raise AssertionError

    async def at_once() -> StoredObject:
        return StoredObject(key="k", content_type="c", size=1)

    gone = asyncio.create_task(once.result(asking(key), body, StoredObject, "answer-1", never))
    await began.wait()
    waiting = asyncio.create_task(once.result(asking(key), body, StoredObject, "answer-2", at_once))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    gone.cancel()
    made = await asyncio.wait_for(waiting, 30)
    assert (made.id, made.result.key) == ("answer-2", "k")


async def test_who_waits_takes_over_from_an_ingress_that_was_killed(services: Services, key: dict[str, str]) -> None:
    quick = JobSettings(heartbeat_s=0.1, stale_s=3)
    once = Idempotency(services.store, services.jobs, quick)
    body = RemixRequest(prompt="p")
    asked = asking(key)
    print_ = await fingerprint(asked, body)
    await claim_key(services.jobs, "public", key["Idempotency-Key"], print_, "answer-of-the-dead")

    async def make() -> StoredObject:
        await asyncio.sleep(4)  # longer than `stale_s`: only its heartbeats say that it is being made
        return StoredObject(key=secrets.token_hex(4), content_type="c", size=1)

    send = [once.result(asked, body, StoredObject, f"answer-of-{i}", make) for i in range(2)]
    first, second = await asyncio.wait_for(asyncio.gather(*send), 30)
    assert first == second
    assert first.id != "answer-of-the-dead"


class Flaky(LocalStore):
    """Refuses the first heartbeat of a request, and tells of the next."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.beats = 0
        self.beaten = asyncio.Event()

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        if key.endswith("-beat.json"):
            self.beats += 1
            if self.beats == 1:
                raise StorageFailed("The store does not answer.")
            self.beaten.set()
        return await super().put(key, data, if_absent=if_absent)


async def test_a_heartbeat_that_was_refused_is_followed_by_another(
    services: Services, tmp_path: Path, key: dict[str, str]
) -> None:
    store = Flaky(tmp_path)
    once = Idempotency(store, JobStore(store, services.settings), JobSettings(heartbeat_s=0.05, stale_s=3600))

    async def make() -> StoredObject:
        await asyncio.wait_for(store.beaten.wait(), 30)
        return StoredObject(key="k", content_type="c", size=1)

    assert (await once.result(asking(key), RemixRequest(prompt="p"), StoredObject, "answer-1", make)).id == "answer-1"
