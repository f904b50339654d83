"""The text engine on the demo checkpoint."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from serve_app import demo
from serve_app.engines.diffusers.text import DiffusersTextEngine
from serve_app.engines.load import load
from serve_app.errors import InvalidRequest
from serve_app.model_settings import TextSettings
from serve_app.tasks import Message, TextBlock, TextEnd, TextEvent, TextStep, TextTask

SHADE = "\u2591"
COUNT = (Message(role="user", content="Count from 10 to 30."),)
COUNTED = ", ".join(map(str, range(10, 31))) + "."
STORY = (Message(role="user", content="Tell me a story about a fox."),)


@pytest.fixture(scope="module")
def folder() -> Path:
    return demo.find("demo/llada2-tiny")


def load_small(folder: Path, **settings: Any) -> DiffusersTextEngine:
    engine = load(TextSettings(model=str(folder), served_name="demo/llada2-tiny", **settings))
    assert isinstance(engine, DiffusersTextEngine)
    return engine


@pytest.fixture
async def engine(folder: Path) -> AsyncIterator[DiffusersTextEngine]:
    engine = load_small(folder)
    yield engine
    engine.close()


@pytest.fixture
async def editing(folder: Path) -> AsyncIterator[DiffusersTextEngine]:
    engine = load_small(folder, algorithm="JointThreshold", algorithm_config={"threshold": 0.05, "edit_threshold": 0.2})
    yield engine
    engine.close()


def task(**changes: Any) -> TextTask:
    values: dict[str, Any] = {"id": "t", "model": "demo/llada2-tiny", "messages": COUNT, "max_tokens": 256}
    return TextTask(**(values | changes))


def prompt(text: str, **changes: Any) -> TextTask:
    return task(messages=(), prompt=text, **changes)


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


async def test_a_text_ends_by_itself(engine: DiffusersTextEngine) -> None:
    got = await events(engine, task())
    assert text(got) == COUNTED
    assert end(got).finish_reason == "stop"
    assert sum(event.tokens for event in got if isinstance(event, TextBlock)) == end(got).completion_tokens
    assert len(COUNTED) / 2 < end(got).completion_tokens < 256


@pytest.mark.parametrize("max_tokens", [1, 5, 31, 32, 33, 64])
async def test_max_tokens_is_exact(engine: DiffusersTextEngine, max_tokens: int) -> None:
    got = await events(engine, task(max_tokens=max_tokens))
    assert COUNTED.startswith(text(got))
    assert text(got)
    assert end(got).finish_reason == "length"
    assert end(got).completion_tokens == max_tokens


async def test_a_text_goes_on_where_its_end_is_ignored(engine: DiffusersTextEngine) -> None:
    got = await events(engine, task(ignore_eos=True, max_tokens=200))
    assert text(got).startswith(COUNTED)
    assert (end(got).finish_reason, end(got).completion_tokens) == ("length", 200)


async def test_prompts_are_counted_by_the_tokenizer(engine: DiffusersTextEngine) -> None:
    """Digits are a token each."""
    assert end(await events(engine, prompt("12345", max_tokens=1))).prompt_tokens == 5
    ask = (Message(role="user", content="12345"),)
    templated = end(await events(engine, task(messages=ask, max_tokens=1))).prompt_tokens
    assert templated > 5
    raw = task(messages=ask, max_tokens=1, raw_prompt=True)
    assert end(await events(engine, raw)).prompt_tokens == 5


async def test_an_empty_prompt_and_one_that_fills_a_block(engine: DiffusersTextEngine) -> None:
    for digits in (0, 32, 31):
        got = await events(engine, prompt("1" * digits, max_tokens=33, ignore_eos=True))
        assert (end(got).prompt_tokens, end(got).completion_tokens) == (digits, 33)


async def test_the_prompt_and_the_seed_change_the_text(engine: DiffusersTextEngine) -> None:
    async def said(**changes: Any) -> str:
        return text(await events(engine, task(**{"messages": STORY, "max_tokens": 64} | changes)))

    first = await said()
    assert await said() == first
    assert await said(messages=COUNT) != first
    assert await said(seed=1) == await said(seed=1) != await said(seed=2)
    assert await said(seed=1, temperature=0.0) == first
    assert await said(seed=1, temperature=5e-324) == first
    assert await said(seed=1, top_k=1) == first
    assert await said(seed=1, top_p=0.0) == first


async def test_blocks_come_one_by_one(engine: DiffusersTextEngine) -> None:
    """A step event of the second block follows the first block, so the first was sent before the second was made."""
    got = await events(engine, task(max_tokens=96, show_steps=True))
    blocks = [event for event in got if isinstance(event, TextBlock)]
    assert [block.block for block in blocks] == list(range(len(blocks)))
    assert len(blocks) >= 3
    # blocks are counted from the beginning of the prompt, so that the first and the last may be short ones
    assert all(block.tokens <= 32 for block in blocks)
    assert all(block.tokens == 32 for block in blocks[1:-1])
    order = [(type(event), event.block) for event in got if not isinstance(event, TextEnd)]
    assert order.index((TextBlock, 0)) < order.index((TextStep, 1))
    assert order.index((TextBlock, 1)) < order.index((TextStep, 2))


async def test_steps_show_the_masks_go(engine: DiffusersTextEngine) -> None:
    got = await events(engine, task(messages=STORY, show_steps=True))
    steps = [event for event in got if isinstance(event, TextStep)]
    blocks = [event for event in got if isinstance(event, TextBlock)]
    assert all(step.text.count(SHADE) == step.masked for step in steps)
    for block in blocks:
        own = [step for step in steps if step.block == block.block]
        assert [step.step for step in own] == list(range(len(own)))
        assert own[0].text == SHADE * own[0].masked, "a block begins all masked"
        assert all(before.masked > after.masked for before, after in itertools.pairwise(own))
        assert own[-1].text.startswith(block.text)
    assert max(step.step for step in steps) > 1
    assert end(got).denoising_steps == len([step for step in steps if step.step])


async def test_steps_are_shown_only_on_request(engine: DiffusersTextEngine) -> None:
    assert not [event for event in await events(engine, task()) if isinstance(event, TextStep)]


async def test_stop_strings_cut_across_blocks(engine: DiffusersTextEngine) -> None:
    """The stop string is the last letters of one block and the first of the next."""
    whole = await events(engine, task())
    first, second, *_ = [event.text for event in whole if isinstance(event, TextBlock)]
    stop = first[-2:] + second[:3]
    got = await events(engine, task(stop=(stop,)))
    assert text(got) == COUNTED[: COUNTED.index(stop)]
    assert end(got).finish_reason == "stop"
    assert end(got).completion_tokens <= len(COUNTED[: COUNTED.index(stop) + len(stop)])
    assert end(got).denoising_steps < end(whole).denoising_steps


async def test_too_long_names_the_field(engine: DiffusersTextEngine) -> None:
    with pytest.raises(InvalidRequest, match="maximum context length is 1536 tokens") as caught:
        await events(engine, task(max_tokens=1532))
    assert caught.value.param == "max_tokens"
    with pytest.raises(InvalidRequest) as caught:
        await events(engine, prompt("1" * 1536))
    assert caught.value.param == "prompt"
    with pytest.raises(InvalidRequest) as caught:
        await events(engine, task(messages=(Message(role="user", content="1" * 1536),)))
    assert caught.value.param == "messages"


async def test_joint_threshold_edits_and_streams(editing: DiffusersTextEngine) -> None:
    got = await events(editing, task(messages=STORY, show_steps=True))
    assert end(got).algorithm == "JointThreshold"
    blocks = [event for event in got if isinstance(event, TextBlock)]
    assert len(blocks) >= 2
    for block in blocks:
        steps = [event for event in got if isinstance(event, TextStep) and event.block == block.block]
        assert steps[-1].text.startswith(block.text), "the block is sent as its last step left it"
    edited = [
        (before.text, after.text)
        for before, after in itertools.pairwise(got)
        if isinstance(before, TextStep)
        and isinstance(after, TextStep)
        and before.block == after.block
        and before.masked == after.masked == 0
        and before.text != after.text
    ]
    assert edited


async def test_a_wrong_algorithm_is_said_before_loading(folder: Path) -> None:
    with pytest.raises(ValueError, match="LowConfidence, JointThreshold"):
        load_small(folder, algorithm="Greedy")
