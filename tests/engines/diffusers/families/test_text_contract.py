"""What every family of text keeps, each on a small random checkpoint of its real classes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from serve_app.engines.base import TextEngine
from serve_app.engines.diffusers.families.text import TextFamily
from serve_app.engines.load import load
from serve_app.errors import ContextLengthExceeded
from serve_app.model_settings import TextSettings
from serve_app.tasks import Message, TextBlock, TextEnd, TextEvent, TextStep, TextTask
from tests.engines.diffusers.families.checkpoints import checkpoints_of
from tests.engines.diffusers.families.parts import TextCheckpoint
from tests.engines.diffusers.families.pausing import close_in_a_step

# the pipeline of DiffusionGemma has torch import its compiler
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
CHECKPOINTS: dict[str, TextCheckpoint] = checkpoints_of(TextFamily)
SHADE = "\u2591"


@dataclass(frozen=True)
class Loaded:
    engine: TextEngine
    expected: TextCheckpoint

    def task(self, **changes: Any) -> TextTask:
        values: dict[str, Any] = {"id": "t", "model": "tiny", "prompt": "abc", "max_tokens": 40, "seed": 7}
        values["ignore_eos"] = True
        return TextTask(**(values | changes))

    async def write(self, **changes: Any) -> list[TextEvent]:
        return [event async for event in self.engine.generate(self.task(**changes))]


@pytest.fixture(scope="module", params=CHECKPOINTS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    expected = CHECKPOINTS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    expected.make(folder)
    engine = load(TextSettings(model=str(folder), served_name="tiny", algorithm_config=expected.algorithm_config))
    yield Loaded(engine, expected)
    engine.close()


def text_of(events: list[TextEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextBlock))


def end_of(events: list[TextEvent]) -> TextEnd:
    assert isinstance(events[-1], TextEnd)
    return events[-1]


async def test_the_family_chooses_its_algorithm(loaded: Loaded) -> None:
    await loaded.engine.warm_up()
    assert ("sampling" in loaded.engine.card.capabilities) == ("temperature" in loaded.expected.samples)
    assert end_of(await loaded.write(max_tokens=1)).algorithm == loaded.expected.algorithm


async def test_blocks_add_up_to_exactly_the_asked_tokens(loaded: Loaded) -> None:
    written = await loaded.write()
    blocks = [event for event in written if isinstance(event, TextBlock)]
    assert len(blocks) >= 40 // loaded.expected.block_length
    assert [block.block for block in blocks] == list(range(len(blocks)))
    assert all(block.tokens <= loaded.expected.block_length for block in blocks)
    assert (end_of(written).finish_reason, end_of(written).completion_tokens) == ("length", 40)


async def test_steps_lead_to_their_block(loaded: Loaded) -> None:
    written = await loaded.write(show_steps=True)
    steps = [event for event in written if isinstance(event, TextStep)]
    assert end_of(written).denoising_steps == len([step for step in steps if step.step])
    assert all(step.text.count(SHADE) == step.masked for step in steps)
    order = [(type(event), event.block) for event in written if not isinstance(event, TextEnd)]
    assert order.index((TextStep, 0)) < order.index((TextBlock, 0)) < order.index((TextStep, 1))
    for before, after in itertools.pairwise(steps):
        assert after.step == (before.step + 1 if after.block == before.block else 0)


async def test_a_seed_decides_the_text(loaded: Loaded) -> None:
    first = text_of(await loaded.write())
    assert text_of(await loaded.write()) == first
    assert text_of(await loaded.write(seed=8)) != first
    assert text_of(await loaded.write(prompt="ba")) != first


async def test_what_does_not_change_the_text_is_told(loaded: Loaded) -> None:
    written = await loaded.write(temperature=0.5, top_p=0.9, top_k=4)
    assert set(end_of(written).ignored) == {"temperature", "top_p", "top_k", "seed"} - loaded.expected.samples


async def test_a_stop_string_ends_the_text_before_it(loaded: Loaded) -> None:
    whole = text_of(await loaded.write())
    stop = whole[20:23]
    written = await loaded.write(stop=(stop,))
    assert text_of(written) == whole[: whole.index(stop)]
    assert end_of(written).finish_reason == "stop"


async def test_closing_stops_within_a_step(loaded: Loaded) -> None:
    assert await close_in_a_step(loaded.engine.generate(loaded.task(max_tokens=200, show_steps=True))) == 3  # pyright: ignore[reportArgumentType]
    assert end_of(await loaded.write(max_tokens=1)).completion_tokens == 1


async def test_prompts_of_both_kinds_are_counted(loaded: Loaded) -> None:
    messages = (Message(role="user", content="abcabc"),)
    chat = end_of(await loaded.write(prompt="", messages=messages, max_tokens=1))
    assert chat.prompt_tokens >= 6
    with pytest.raises(ContextLengthExceeded, match="maximum context length is 256 tokens"):
        await loaded.write(max_tokens=255)
