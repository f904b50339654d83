"""The text deployment over the demo model."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from serve_app.deployments.text import TextDeployment
from serve_app.errors import TimedOut
from serve_app.tasks import Message, TextBlock, TextEnd, TextStep, TextTask
from tests.deployments.conftest import Configure, ledger_rows


def make_task(**changes: Any) -> TextTask:
    asked = (Message(role="user", content="Tell me a story about a river."),)
    values: dict[str, Any] = {"id": "chatcmpl-1", "model": "demo/llada2-tiny", "max_tokens": 64, "messages": asked}
    return TextTask(**{**values, **changes})


LONG: dict[str, Any] = {"max_tokens": 960, "ignore_eos": True}


@pytest.fixture
async def text(configure: Configure) -> AsyncIterator[TextDeployment]:
    deployment = TextDeployment(configure())
    await deployment.check_health()
    yield deployment
    await deployment.close()


async def test_describes_its_model_by_the_name_that_callers_use(text: TextDeployment) -> None:
    card = await text.describe()
    assert (card.model, card.kind, card.engine) == ("demo/llada2-tiny", "text", "diffusers")


async def test_completes_and_tells_where_the_time_went(text: TextDeployment, configure: Configure) -> None:
    result = await text.generate(make_task(submitted_at=time.time() - 1, seed=3))
    assert 32 < result.end.completion_tokens <= 64
    assert result.text.startswith("Once upon a time, ")
    timing = result.end.timing
    assert 1 <= timing.queue_s < 30
    assert timing.engine_s > 0
    await text.close()
    [row] = ledger_rows(configure())
    assert (row["id"], row["kind"], row["outcome"], row["seed"]) == ("chatcmpl-1", "text", "completed", 3)
    assert row["engine_s"] == pytest.approx(timing.engine_s)
    assert row["prompt"] is None
    assert "river" not in row["parameters"]


async def test_streams_block_by_block(text: TextDeployment) -> None:
    events = [event async for event in text.stream(make_task(show_steps=True))]
    blocks = [event for event in events if isinstance(event, TextBlock)]
    assert len(blocks) > 1
    assert any(isinstance(event, TextStep) for event in events)
    assert isinstance(events[-1], TextEnd)
    assert sum(isinstance(event, TextEnd) for event in events) == 1
    whole = await text.generate(make_task())
    assert "".join(block.text for block in blocks) == whole.text


async def test_one_waits_for_the_other(text: TextDeployment) -> None:
    now = time.time()
    results = await asyncio.gather(*(text.generate(make_task(submitted_at=now)) for _ in range(3)))
    timings = sorted((result.end.timing for result in results), key=lambda timing: timing.queue_s)
    for first, second in itertools.pairwise(timings):
        assert second.queue_s > first.queue_s + 0.9 * first.engine_s


async def test_a_slow_reader_holds_up_nobody_and_pays_for_the_engine_alone(text: TextDeployment) -> None:
    began = time.monotonic()
    async with aclosing(text.stream(make_task(max_tokens=96))) as events:
        await anext(events)
        other = await text.generate(make_task())  # waits until the engine has ended the first
        *_, end = [event async for event in events]
    assert isinstance(end, TextEnd)
    assert end.timing.engine_s + other.end.timing.engine_s < time.monotonic() - began


async def test_a_reader_that_leaves_frees_the_engine(text: TextDeployment, configure: Configure) -> None:
    events = text.stream(make_task(**LONG))
    async for _ in events:
        break
    await events.aclose()
    await text.close()
    [row] = ledger_rows(configure())
    assert row["outcome"] == "cancelled"
    assert row["engine_s"] > 0, "the engine had stopped when it was closed"


async def test_a_caller_that_leaves_stops_the_engine(text: TextDeployment, configure: Configure) -> None:
    call = asyncio.create_task(text.generate(make_task(**LONG)))
    await asyncio.sleep(0.3)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await text.generate(make_task(max_tokens=32))
    await text.close()
    assert [row["outcome"] for row in ledger_rows(configure())] == ["cancelled", "completed"]


async def test_a_replica_that_was_closed_has_no_engine(configure: Configure) -> None:
    deployment = TextDeployment(configure())
    await deployment.close()
    with pytest.raises(RuntimeError, match="shutdown"):
        await deployment.generate(make_task())


async def test_the_time_limit_stops_it(configure: Configure) -> None:
    settings = configure(text={"time_limit_s": 0.2})
    deployment = TextDeployment(settings)
    await deployment.check_health()
    with pytest.raises(TimedOut, match=r"0\.2 s"):
        await deployment.generate(make_task(**LONG))
    await deployment.close()
    assert [row["outcome"] for row in ledger_rows(settings)] == ["timeout"]
