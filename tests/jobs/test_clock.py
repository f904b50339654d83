"""The store's clock, by a server that does not tell it."""

from __future__ import annotations

import asyncio

import pytest

from serve_app.errors import StorageFailed
from serve_app.jobs.clock import StoreClock
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
