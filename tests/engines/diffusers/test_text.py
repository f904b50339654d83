"""The text engine on the demo checkpoint, whose tokens are bytes."""

from __future__ import annotations

import itertools
import string
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from serve_app import demo
from serve_app.engines.diffusers.text import DiffusersTextEngine
from serve_app.engines.load import load_text
from serve_app.errors import InvalidRequest
from serve_app.model_settings import TextSettings
from serve_app.tasks import Message, TextBlock, TextEnd, TextEvent, TextStep, TextTask

SHADE = "\u2591"


@pytest.fixture(scope="module")
def folder(demo_home: Path) -> Path:
    return demo.ensure("demo/llada2-tiny", demo_home)


def load(folder: Path, **settings: Any) -> DiffusersTextEngine:
    engine = load_text(TextSettings(model=str(folder), served_name="demo/llada2-tiny", **settings))
    assert isinstance(engine, DiffusersTextEngine)
    return engine


@pytest.fixture
async def engine(folder: Path) -> AsyncIterator[DiffusersTextEngine]:
    engine = load(folder)
    yield engine
    engine.close()


@pytest.fixture
async def editing(folder: Path) -> AsyncIterator[DiffusersTextEngine]:
    engine = load(folder, algorithm="JointThreshold", algorithm_config={"threshold": 0.05, "edit_threshold": 0.2})
    yield engine
    engine.close()


def task(**changes: Any) -> TextTask:
    values: dict[str, Any] = {"id": "t", "model": "demo/llada2-tiny", "prompt": "Hello", "max_tokens": 40}
    return TextTask(**(values | changes))


async def events(engine: DiffusersTextEngine, task: TextTask) -> list[TextEvent]:
    return [event async for event in engine.generate(task)]


def text(events: list[TextEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextBlock))


def end(events: list[TextEvent]) -> TextEnd:
    last = events[-1]
    assert isinstance(last, TextEnd)
    return last


async def test_card_and_warm_up(engine: DiffusersTextEngine) -> None:
    assert engine.card.model == "demo/llada2-tiny"
    assert engine.card.capabilities == {"sampling", "steps", "progress", "cancel"}
    await engine.warm_up()
    await engine.check_health()


@pytest.mark.parametrize("max_tokens", [1, 5, 31, 32, 33, 64])
async def test_max_tokens_is_exact(engine: DiffusersTextEngine, max_tokens: int) -> None:
    got = await events(engine, task(max_tokens=max_tokens))
    assert len(text(got)) == max_tokens
    assert set(text(got)) <= set(string.printable[:95])
    assert end(got).finish_reason == "length"
    assert end(got).completion_tokens == max_tokens
    assert sum(event.tokens for event in got if isinstance(event, TextBlock)) == max_tokens


async def test_prompts_are_counted_by_the_tokenizer(engine: DiffusersTextEngine) -> None:
    assert end(await events(engine, task(prompt="Grüße", max_tokens=1))).prompt_tokens == len("Grüße".encode())
    chat = task(prompt="", messages=(Message(role="user", content="Hi"),), max_tokens=1)
    assert end(await events(engine, chat)).prompt_tokens == len("user: Hi\nassistant: ")
    raw = task(prompt="", messages=(Message(role="user", content="Hi"),), max_tokens=1, raw_prompt=True)
    assert end(await events(engine, raw)).prompt_tokens == 2


async def test_an_empty_prompt_and_one_that_fills_a_block(engine: DiffusersTextEngine) -> None:
    for prompt in ("", "x" * 32, "x" * 31):
        assert len(text(await events(engine, task(prompt=prompt, max_tokens=33)))) == 33


async def test_the_prompt_and_the_seed_change_the_text(engine: DiffusersTextEngine) -> None:
    async def said(**changes: Any) -> str:
        return text(await events(engine, task(**changes)))

    first = await said()
    assert await said() == first
    assert await said(prompt="Good night") != first
    assert await said(seed=1) == await said(seed=1) != await said(seed=2)
    assert await said(seed=1, temperature=0.0) == first
    assert await said(seed=1, temperature=5e-324) == first
    assert await said(seed=1, top_k=1) == first
    assert await said(seed=1, top_p=0.0) == first


async def test_blocks_come_one_by_one(engine: DiffusersTextEngine) -> None:
    """A step event of the second block follows the first block, so the first was sent before the second was made."""
    got = await events(engine, task(prompt="x" * 32, max_tokens=96, show_steps=True))
    blocks = [event for event in got if isinstance(event, TextBlock)]
    assert [block.block for block in blocks] == [0, 1, 2]
    assert [block.tokens for block in blocks] == [32, 32, 32]
    order = [(type(event), event.block) for event in got if not isinstance(event, TextEnd)]
    assert order.index((TextBlock, 0)) < order.index((TextStep, 1))
    assert order.index((TextBlock, 1)) < order.index((TextStep, 2))


async def test_steps_show_the_masks_go(engine: DiffusersTextEngine) -> None:
    got = await events(engine, task(prompt="x" * 32, max_tokens=32, show_steps=True))
    steps = [event for event in got if isinstance(event, TextStep)]
    assert [step.step for step in steps] == list(range(1, len(steps) + 1))
    assert all(step.text.count(SHADE) == step.masked and len(step.text) == 32 for step in steps)
    assert all(before.masked > after.masked for before, after in itertools.pairwise(steps))
    assert steps[-1].masked == 0
    assert steps[-1].text == text(got)
    assert end(got).denoising_steps == len(steps)


async def test_steps_are_shown_only_on_request(engine: DiffusersTextEngine) -> None:
    assert not [event for event in await events(engine, task()) if isinstance(event, TextStep)]


async def test_stop_strings_cut_across_blocks(engine: DiffusersTextEngine) -> None:
    """The stop string is taken from what the engine says without it: the last letters of one block and the first of
    the next."""
    whole = text(await events(engine, task(prompt="x" * 32, max_tokens=96, seed=5)))
    stop = whole[30:34]
    first = whole.index(stop)
    got = await events(engine, task(prompt="x" * 32, max_tokens=96, seed=5, stop=(stop,)))
    assert text(got) == whole[:first]
    assert end(got).finish_reason == "stop"
    assert end(got).completion_tokens == first + len(stop)
    assert end(got).denoising_steps < 96


async def test_too_long_names_the_field(engine: DiffusersTextEngine) -> None:
    with pytest.raises(InvalidRequest, match="maximum context length is 8192 tokens") as caught:
        await events(engine, task(max_tokens=8190))
    assert caught.value.param == "max_tokens"
    with pytest.raises(InvalidRequest) as caught:
        await events(engine, task(prompt="x" * 8192))
    assert caught.value.param == "prompt"
    with pytest.raises(InvalidRequest) as caught:
        await events(engine, task(messages=(Message(role="user", content="x" * 8192),)))
    assert caught.value.param == "messages"


async def test_closing_the_generator_stops_within_a_step(engine: DiffusersTextEngine) -> None:
    seen = 0
    async with aclosing(_generator(engine, task(max_tokens=1024, show_steps=True))) as stream:
        async for _ in stream:
            seen += 1
            if seen == 3:
                break
    # the engine is free at once: nothing of the long text is still being made
    assert len(text(await events(engine, task(max_tokens=1)))) == 1


async def test_joint_threshold_edits_and_streams(editing: DiffusersTextEngine) -> None:
    got = await events(editing, task(prompt="x" * 32, max_tokens=64, show_steps=True))
    assert end(got).algorithm == "JointThreshold"
    assert len(text(got)) == 64
    blocks = [event for event in got if isinstance(event, TextBlock)]
    assert [block.block for block in blocks] == [0, 1]
    for block in blocks:
        steps = [event for event in got if isinstance(event, TextStep) and event.block == block.block]
        assert steps[-1].text == block.text, "the block is sent as its last step left it"
    edited = [
        (before.text, after.text)
        for before, after in itertools.pairwise(got)
        if isinstance(before, TextStep)
        and isinstance(after, TextStep)
        and any(old not in (SHADE, new) for old, new in zip(before.text, after.text, strict=True))
    ]
    assert edited


async def test_a_wrong_algorithm_is_said_before_loading(folder: Path) -> None:
    with pytest.raises(ValueError, match="LowConfidence, JointThreshold"):
        load(folder, algorithm="Greedy")


def _generator(engine: DiffusersTextEngine, task: TextTask) -> AsyncGenerator[TextEvent]:
    return engine.generate(task)
