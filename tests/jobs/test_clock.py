"""The store's clock, by a server that does not tell it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from serve_app.errors import StorageFailed
from serve_app.jobs.clock import LOOK_AGAIN_S, LOOK_EVERY_S, StoreClock
from serve_app.storage.local import LocalStore
from serve_app.tasks import StoredObject
from tests.storage.test_s3_faults import playing, reply


async def test_those_who_ask_at_once_wait_for_the_same_answer() -> None:
    """In turn, each would wait half a minute for a server that is silent."""
    asked: list[str] = []

    async def answer(head: str, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(head.split()[0])
        reply(writer, b"<Error><Code>AccessDenied</Code></Error>", "403 Forbidden")

    async with playing(answer) as store:
        clock = StoreClock(store)
        told = await asyncio.gather(*(clock.now() for _ in range(3)), return_exceptions=True)
        assert [type(each) for each in told] == [StorageFailed] * 3
        assert asked == ["PUT"]
        with pytest.raises(StorageFailed):
            await clock.now()
        assert asked == ["PUT", "PUT"]


class Away(LocalStore):
    """Refuses every write while it is told to, and counts how often it was asked."""

    away = False
    asked = 0

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        self.asked += 1
        if self.away:
            raise StorageFailed("The store does not answer.")
        return await super().put(key, data, if_absent=if_absent)


async def test_an_outage_is_waited_out_and_the_time_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later_s, counter = 0.0, time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda clock: counter(clock) + later_s)
    store = Away(tmp_path)
    clock = StoreClock(store)
    began = await clock.now()
    store.away = True
    for pause_s in (LOOK_EVERY_S, LOOK_AGAIN_S):
        later_s += pause_s + 1
        asked = store.asked
        # a question may take half a minute where the store is away: it is asked once, and not by every caller
        for _ in range(5):
            assert await clock.now() == pytest.approx(began + later_s, abs=60)
            await asyncio.sleep(0)
        assert store.asked == asked + 1
