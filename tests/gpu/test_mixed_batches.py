"""SGLang's real scheduler with our choice of each step's requests, on a CPU: SDAR, small, random weights, float32.

There is nothing for a GPU in it: on a machine with one, SGLang is told to use the CPU all the same.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from serve_app.engines.sglang import mixed_batches
from serve_app.engines.sglang.text import SGLangTextEngine
from serve_app.model_settings import TextSettings
from serve_app.tasks import TextEnd, TextTask
from tests.gpu import on_cpu
from tests.gpu.test_text import events, texts

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]
TASK = TextTask(id="t", model="sdar", prompt="boats", max_tokens=16, ignore_eos=True, in_blocks=False)


@pytest.fixture(scope="module")
def sdar(checkpoints: dict[str, Path], shims: None) -> Path:
    on_cpu.write_weights(checkpoints["sdar"])
    return checkpoints["sdar"]


@contextmanager
def engine(folder: Path, *, at_once: int, memory: int) -> Generator[SGLangTextEngine]:
    settings = {"model": str(folder), "gpus": 1, "trust_remote_code": True, "max_running_requests": at_once}
    settings |= {"max_total_tokens": memory, "engine_args": on_cpu.ARGUMENTS | {"log_level": "info"}}
    made = SGLangTextEngine(TextSettings.model_validate(settings))
    try:
        yield made
    finally:
        made.close()


async def test_prompts_that_join_change_no_text_and_save_steps(
    sdar: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tasks = [replace(TASK, prompt=f"{i}{' A tale of boats.' * (2 * i)}", max_tokens=28 - 4 * i) for i in range(4)]
    steps: dict[str, int] = {}
    written: dict[str, list[list[str]]] = {}
    for mixed in ("0", "1"):
        monkeypatch.setenv(mixed_batches.SWITCH, mixed)
        with engine(sdar, at_once=4, memory=2048) as running:
            capfd.readouterr()
            amid = await asyncio.gather(*(events(running, task) for task in tasks))
            steps[mixed] = len(re.findall("Prefill batch", "".join(capfd.readouterr())))  # so SGLang calls each step
            alone = [texts(await events(running, task)) for task in tasks]
        written[mixed] = [texts(each) for each in amid]
        assert written[mixed] == alone
    assert written["0"] == written["1"]
    assert len({"".join(each) for each in written["1"]}) == len(tasks)
    print(f"{steps['0']} steps in SGLang's own order, {steps['1']} mixed")
    assert 0 < steps["1"] < steps["0"]


async def test_a_text_waits_until_the_memory_for_all_of_it_is_free(sdar: Path) -> None:
    """Four come at once, and there is memory for two: SGLang's own order takes all, and its scheduler ends."""
    with engine(sdar, at_once=4, memory=256) as running:
        found = await asyncio.gather(*(events(running, replace(TASK, prompt=str(i), max_tokens=100)) for i in range(4)))
        assert all(isinstance(each[-1], TextEnd) and each[-1].completion_tokens == 100 for each in found)
        await running.check_health()


async def test_texts_of_any_length_end_where_memory_is_short(sdar: Path) -> None:
    """SGLang reckons each running text at its full length again, and where that comes near to what is left it cuts a
    block short, at which its scheduler ends.
    """
    with engine(sdar, at_once=6, memory=400) as running:
        tasks = [replace(TASK, prompt="b" * (3 + 5 * i % 17), max_tokens=41 + 7 * (i % 9)) for i in range(40)]
        found = await asyncio.gather(*(events(running, task) for task in tasks))
        ends = [each[-1] for each in found]
        assert [end.completion_tokens for end in ends if isinstance(end, TextEnd)] == [
            each.max_tokens for each in tasks
        ]
        whole = replace(TASK, prompt="b", max_tokens=380)  # nearly all there is
        end = (await events(running, whole))[-1]
        assert isinstance(end, TextEnd)
        assert end.completion_tokens == 380


async def test_texts_given_up_at_random_leak_no_memory(sdar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some while they wait for memory, some while their prompt is read, some amid their text."""
    # SGLang's own check ends the scheduler at a leaked block
    monkeypatch.setenv("SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_IDLE", "1")
    chance = random.Random(3)
    with engine(sdar, at_once=4, memory=512) as running:
        before = texts(await events(running, TASK))

        async def give_up(i: int) -> None:
            prompt = f"{'A tale of boats. ' * chance.randrange(8)}{i}"
            task = replace(TASK, prompt=prompt, max_tokens=100, in_blocks=bool(chance.randrange(2)))
            work = asyncio.create_task(events(running, task))
            await asyncio.sleep(chance.uniform(0, 2))
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

        for _ in range(4):
            await asyncio.gather(*(give_up(i) for i in range(8)))
            assert texts(await events(running, TASK)) == before
        await asyncio.sleep(3)  # it checks when it is idle
        await running.check_health()
