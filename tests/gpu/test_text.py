"""A diffusion language model on sgl.Engine: LLaDA2.0-mini's layout, small, with random weights."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.engines.sglang.text import SGLangTextEngine
from serve_app.errors import EngineDied, InvalidRequest
from serve_app.model_settings import TextSettings
from serve_app.tasks import Message, TextBlock, TextEnd, TextEvent, TextTask
from tests.gpu.conftest import workers

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="SGLang's language models need a GPU"),
]
TASK = TextTask(id="t", model="llada", prompt="Tell me of boats.", max_tokens=96, ignore_eos=True)


def settings(folder: Path, **changes: object) -> TextSettings:
    arguments = {"load_format": "dummy"}
    kept = {"max_running_requests": 8, "max_total_tokens": 16384, "gpus": 0.5, "trust_remote_code": True}
    return TextSettings.model_validate({"model": str(folder), "engine_args": arguments} | kept | changes)


@pytest.fixture(scope="module")
async def engine(checkpoints: dict[str, Path]) -> AsyncIterator[SGLangTextEngine]:
    made = SGLangTextEngine(settings(checkpoints["llada"], algorithm_config={"threshold": 0.9}))
    await made.warm_up()
    yield made
    made.close()


async def events(engine: SGLangTextEngine, task: TextTask) -> list[TextEvent]:
    return [event async for event in engine.generate(task)]


def texts(found: list[TextEvent]) -> list[str]:
    return [event.text for event in found if isinstance(event, TextBlock)]


async def test_blocks_then_the_end(engine: SGLangTextEngine) -> None:
    *blocks, end = await events(engine, TASK)
    assert all(isinstance(block, TextBlock) and block.text for block in blocks)
    assert len(blocks) >= 2
    assert isinstance(end, TextEnd)
    assert (end.finish_reason, end.completion_tokens, end.algorithm) == ("length", 96, "LowConfidence")
    assert end.prompt_tokens > 0
    assert len(blocks) <= 4  # blocks of 32 tokens, and not an answer for each step
    assert end.ignored == ()


async def test_the_whole_text_is_what_a_stream_gives(engine: SGLangTextEngine) -> None:
    *blocks, _ = await events(engine, TASK)
    whole, end = await events(engine, replace(TASK, in_blocks=False))
    assert isinstance(whole, TextBlock)
    assert whole.text == "".join(block.text for block in blocks if isinstance(block, TextBlock))
    assert isinstance(end, TextEnd)
    assert (end.finish_reason, end.completion_tokens) == ("length", 96)


async def test_the_first_block_comes_before_the_last_is_computed(engine: SGLangTextEngine) -> None:
    started, first = time.monotonic(), 0.0
    async for _ in engine.generate(replace(TASK, max_tokens=512)):
        first = first or time.monotonic() - started
    assert first < 0.5 * (time.monotonic() - started)


async def test_the_same_prompt_gives_the_same_text(engine: SGLangTextEngine) -> None:
    def text(found: list[TextEvent]) -> str:
        return "".join(event.text for event in found if isinstance(event, TextBlock))

    assert text(await events(engine, TASK)) == text(await events(engine, replace(TASK, seed=4)))


async def test_messages_and_raw_prompts(engine: SGLangTextEngine) -> None:
    chat = replace(TASK, prompt="", messages=(Message(role="user", content="Hello"),), max_tokens=32)
    counts: list[int] = []
    for task in (chat, replace(chat, raw_prompt=True)):
        end = (await events(engine, task))[-1]
        assert isinstance(end, TextEnd)
        counts.append(end.prompt_tokens)
    assert counts[0] > counts[1] > 0


async def test_a_stop_string_ends_the_text(engine: SGLangTextEngine) -> None:
    *blocks, _ = await events(engine, TASK)
    text = "".join(block.text for block in blocks if isinstance(block, TextBlock))
    word = text[len(text) // 2 :][:3]
    *blocks, end = await events(engine, replace(TASK, stop=(word,)))
    stopped = "".join(block.text for block in blocks if isinstance(block, TextBlock))
    assert stopped == text[: text.index(word)]
    assert isinstance(end, TextEnd)
    assert end.finish_reason == "stop"


async def test_sampling_is_reported_as_ignored(engine: SGLangTextEngine) -> None:
    end = (await events(engine, replace(TASK, temperature=0.7, top_p=0.9, top_k=5, seed=3, max_tokens=32)))[-1]
    assert isinstance(end, TextEnd)
    assert end.ignored == ("temperature", "top_p", "top_k", "seed")


async def test_more_than_fits_is_refused(engine: SGLangTextEngine) -> None:
    with pytest.raises(InvalidRequest):
        await events(engine, replace(TASK, max_tokens=10_000_000))


async def test_a_reader_who_leaves_frees_the_engine(engine: SGLangTextEngine) -> None:
    async with aclosing(engine.generate(replace(TASK, max_tokens=4096))) as reader:  # pyright: ignore[reportArgumentType]
        await anext(reader)
    started = time.monotonic()
    await events(engine, replace(TASK, max_tokens=32))
    assert time.monotonic() - started < 5


async def test_a_caller_who_gives_up_the_whole_text_frees_the_engine(engine: SGLangTextEngine) -> None:
    work = asyncio.create_task(events(engine, replace(TASK, max_tokens=4096, in_blocks=False)))
    await asyncio.sleep(0.2)
    work.cancel()
    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await work
    await events(engine, replace(TASK, max_tokens=32))
    assert time.monotonic() - started < 5


async def test_many_at_once(engine: SGLangTextEngine) -> None:
    found = await asyncio.gather(*(events(engine, replace(TASK, prompt=f"{i} boats")) for i in range(16)))
    assert all(isinstance(each[-1], TextEnd) and each[-1].completion_tokens == 96 for each in found)


async def test_aborts_at_random_leak_nothing(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    # SGLang's own check ends the scheduler at a leaked block; prompts that share their beginning use the prefix cache
    monkeypatch.setenv("SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_IDLE", "1")
    engine, rng = SGLangTextEngine(settings(checkpoints["llada"])), random.Random(2)
    try:
        await engine.warm_up()
        before = await events(engine, TASK)

        async def give_up(i: int) -> None:
            task = replace(TASK, prompt=f"{'A long tale of boats. ' * rng.randrange(20)} {i}", max_tokens=512)
            work = asyncio.create_task(events(engine, replace(task, in_blocks=bool(rng.randrange(2)))))
            await asyncio.sleep(rng.uniform(0, 0.5))
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

        for _ in range(25):
            await asyncio.gather(*(give_up(i) for i in range(8)))
        await asyncio.sleep(3)
        await engine.check_health()
        assert texts(await events(engine, TASK)) == texts(before)
    finally:
        engine.close()


async def test_a_killed_worker_fails_its_requests(engine: SGLangTextEngine) -> None:
    work = [asyncio.create_task(events(engine, replace(TASK, max_tokens=8000, prompt=str(i)))) for i in range(3)]
    await asyncio.sleep(1)
    os.kill(workers()[0], signal.SIGKILL)
    results = await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), 20)
    assert all(isinstance(result, EngineDied) for result in results)
    with pytest.raises(EngineDied):
        await engine.check_health()
    engine.close()
    assert workers() == []


def test_a_misspelt_algorithm_is_refused_before_loading(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="LowConfidence"):
        SGLangTextEngine(settings(checkpoints["llada"], algorithm="LowConfidense"))
    with pytest.raises(ValueError, match="threshold"):
        SGLangTextEngine(settings(checkpoints["llada"], algorithm_config={"treshold": 0.9}))
