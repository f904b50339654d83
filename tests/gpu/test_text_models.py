"""The other language models of sgl.Engine, small, with random weights: DiffusionGemma, and SDAR also on a CPU.

DiffusionGemma writes canvases of 256 tokens, encodes what stands before them in passes of their own and wants Triton's
attention. SDAR writes blocks of 4 tokens, and brings its configuration as code.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from serve_app.engines.families import GEMMA4_RENOISE, LOW_CONFIDENCE
from serve_app.engines.sglang.text import SGLangTextEngine
from serve_app.errors import InvalidRequest
from serve_app.model_settings import TextSettings
from serve_app.tasks import Message, TextBlock, TextEnd, TextEvent, TextTask
from tests.gpu import on_cpu
from tests.gpu.conftest import workers
from tests.gpu.test_text import events

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore"),
]
TASK = TextTask(id="t", model="m", prompt="Tell me of boats.", max_tokens=300, ignore_eos=True)
CONTEXT = 32768
"""`max_total_tokens`: no request gets longer."""


@dataclass(frozen=True)
class Kind:
    """`block` tokens come at once."""

    checkpoint: str
    algorithm: str
    block: int


KINDS = (Kind("diffusion-gemma", GEMMA4_RENOISE, 256), Kind("sdar", LOW_CONFIDENCE, 4))
AT_ONCE = 4
HAS_GPU = torch.cuda.is_available()


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.checkpoint)
def kind(request: pytest.FixtureRequest) -> Kind:
    if not HAS_GPU and request.param.algorithm == GEMMA4_RENOISE:
        pytest.skip("its attention needs a GPU")
    if not HAS_GPU:
        request.getfixturevalue("shims")
    return request.param


@pytest.fixture(scope="module")
async def engine(kind: Kind, checkpoints: dict[str, Path]) -> AsyncIterator[SGLangTextEngine]:
    arguments = {"load_format": "dummy"} | ({} if HAS_GPU else on_cpu.ARGUMENTS)
    settings = {"model": str(checkpoints[kind.checkpoint]), "engine_args": arguments}
    settings |= {"max_running_requests": AT_ONCE, "max_total_tokens": CONTEXT, "gpus": 0.5, "trust_remote_code": True}
    made = SGLangTextEngine(TextSettings.model_validate(settings))
    started = time.monotonic()
    await made.warm_up()
    print(f"{kind.checkpoint}: warm after {time.monotonic() - started:.1f} s")
    yield made
    made.close()
    assert workers() == []


def text_of(found: list[TextEvent]) -> str:
    return "".join(event.text for event in found if isinstance(event, TextBlock))


async def test_blocks_then_the_end(engine: SGLangTextEngine, kind: Kind) -> None:
    started = time.monotonic()
    *blocks, end = await events(engine, TASK)
    print(f"{kind.checkpoint}: 300 tokens in {time.monotonic() - started:.1f} s, {len(blocks)} blocks")
    assert all(isinstance(block, TextBlock) and block.text for block in blocks)
    # whole blocks of the model, of which the prompt may fill a part of the first
    assert 2 <= len(blocks) <= TASK.max_tokens // kind.block + 2
    assert isinstance(end, TextEnd)
    assert (end.finish_reason, end.completion_tokens, end.algorithm) == ("length", 300, kind.algorithm)
    assert end.prompt_tokens > 0
    assert end.ignored == ()


async def test_the_whole_text_at_once(engine: SGLangTextEngine) -> None:
    whole, end = await events(engine, replace(TASK, in_blocks=False))
    assert isinstance(whole, TextBlock)
    assert whole.text
    assert isinstance(end, TextEnd)
    assert (end.finish_reason, end.completion_tokens) == ("length", 300)


async def test_messages_and_raw_prompts(engine: SGLangTextEngine) -> None:
    chat = replace(TASK, prompt="", messages=(Message(role="user", content="Hello"),), max_tokens=8)
    counts: list[int] = []
    for task in (chat, replace(chat, raw_prompt=True)):
        end = (await events(engine, task))[-1]
        assert isinstance(end, TextEnd)
        counts.append(end.prompt_tokens)
    assert counts[0] > counts[1] > 0


async def test_a_long_prompt(engine: SGLangTextEngine) -> None:
    """Longer than a canvas, and than the window of the layers that slide."""
    end = (await events(engine, replace(TASK, prompt="A tale of boats. " * 100, max_tokens=32)))[-1]
    assert isinstance(end, TextEnd)
    assert end.prompt_tokens > 1024
    assert end.completion_tokens == 32


async def test_two_at_once(engine: SGLangTextEngine) -> None:
    found = await asyncio.gather(*(events(engine, replace(TASK, prompt=f"{i} boats")) for i in range(2)))
    assert all(isinstance(each[-1], TextEnd) and each[-1].completion_tokens == 300 for each in found)
    assert all(text_of(each) for each in found)


async def test_more_at_once_than_run_together(engine: SGLangTextEngine) -> None:
    tasks = [replace(TASK, prompt=f"{'Boats. ' * i}", max_tokens=20 + 40 * i) for i in range(1, 10)]
    found = await asyncio.gather(*(events(engine, task) for task in tasks))
    ends = [each[-1] for each in found]
    assert [end.completion_tokens for end in ends if isinstance(end, TextEnd)] == [task.max_tokens for task in tasks]


@pytest.mark.parametrize("wait_s", [0.0, 0.05, 0.3, 0.6])
@pytest.mark.parametrize("in_blocks", [True, False])
async def test_what_is_given_up_leaves_the_engine(engine: SGLangTextEngine, in_blocks: bool, wait_s: float) -> None:
    """As many as run together, so that the next one would have to wait for them."""
    long = replace(TASK, max_tokens=CONTEXT // AT_ONCE - 1024, in_blocks=in_blocks)
    work = [asyncio.create_task(events(engine, replace(long, prompt=f"{i} boats"))) for i in range(AT_ONCE)]
    await asyncio.sleep(wait_s)
    for each in work:
        each.cancel()
    assert all(isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(*work, return_exceptions=True))
    started = time.monotonic()
    end = (await events(engine, replace(TASK, max_tokens=8)))[-1]
    print(f"the next one took {time.monotonic() - started:.2f} s")
    assert isinstance(end, TextEnd)
    assert end.completion_tokens == 8
    await engine.check_health()


async def test_a_reader_who_leaves(engine: SGLangTextEngine) -> None:
    async with aclosing(engine.generate(replace(TASK, max_tokens=8000))) as reader:  # pyright: ignore[reportArgumentType]
        await anext(reader)
    assert text_of(await events(engine, TASK))


async def test_more_than_fits_is_refused(engine: SGLangTextEngine) -> None:
    with pytest.raises(InvalidRequest):
        await events(engine, replace(TASK, max_tokens=CONTEXT))
    assert text_of(await events(engine, TASK))
