"""SGLang's real scheduler with our choice of each step's requests, on a CPU: SDAR, small, random weights, float32.

There is nothing for a GPU in it: on a machine with one, SGLang is told to use the CPU all the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from serve_app.engines.sglang import mixed_batches
from serve_app.engines.sglang.text import SGLangTextEngine
from serve_app.model_settings import TextSettings
from serve_app.tasks import TextBlock, TextEnd, TextEvent, TextTask

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]
TASK = TextTask(id="t", model="sdar", prompt="boats", max_tokens=16, ignore_eos=True, in_blocks=False)
ON_CPU = {"device": "cpu", "attention_backend": "torch_native", "disable_cuda_graph": True, "dtype": "float32"}
ROTARY = """
import torch

def rotary_embedding(positions, query, key, head_size, table, is_neox):
    cos, sin = table.index_select(0, positions.flatten().long())[:, None].chunk(2, dim=-1)
    for heads in (query, key):
        view = heads.view(len(positions), -1, head_size)
        first, second = view.chunk(2, dim=-1)
        view.copy_(torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1))
"""
"""SGLang takes this one from vLLM where the processor lacks AMX; of torch alone here."""


@pytest.fixture(scope="module")
def sdar(checkpoints: dict[str, Path]) -> Path:
    """With weights that make texts differ, which SGLang's own dummies do not."""
    folder, random = checkpoints["sdar"], torch.Generator().manual_seed(1)
    config = json.loads((folder / "config.json").read_text())

    def weights(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=random) * 2 / columns**0.5

    width, inner, size = (config[key] for key in ("hidden_size", "intermediate_size", "head_dim"))
    queries, keys = (size * config[f"num_{key}_heads"] for key in ("attention", "key_value"))
    shapes = {f"self_attn.{name}_proj": (rows, width) for name, rows in zip("qkv", (queries, keys, keys), strict=True)}
    shapes |= {"self_attn.o_proj": (width, queries), "mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width)}
    shapes |= {"mlp.down_proj": (width, inner)}
    norms = {"self_attn.q_norm": size, "self_attn.k_norm": size}
    norms |= {"input_layernorm": width, "post_attention_layernorm": width}
    found = {f"{name}.weight": weights(config["vocab_size"], width) for name in ("model.embed_tokens", "lm_head")}
    found["model.embed_tokens.weight"] *= width**0.5
    found["model.norm.weight"] = torch.ones(width)
    for i in range(config["num_hidden_layers"]):
        found |= {f"model.layers.{i}.{name}.weight": weights(*shape) for name, shape in shapes.items()}
        found |= {f"model.layers.{i}.{name}.weight": torch.ones(length) for name, length in norms.items()}
    save_file(found, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module", autouse=True)
def shims(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """What SGLang's processes find beside their packages: vLLM's function, and our plugin where it is not installed."""
    folder = tmp_path_factory.mktemp("shims")
    files = {"vllm/__init__.py": "", "vllm/_custom_ops.py": ROTARY}
    files["mixed_batches-0.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: mixed-batches\nVersion: 0\n"
    plugin = f"[sglang.srt.plugins]\nmixed = {mixed_batches.__name__}:register\n"
    files["mixed_batches-0.dist-info/entry_points.txt"] = plugin
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    before = signal.getsignal(signal.SIGQUIT)
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # for all: transformers, too, puts its folder on the path, and once only
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        yield
    signal.signal(signal.SIGQUIT, before)


@contextmanager
def engine(folder: Path, *, at_once: int, memory: int) -> Generator[SGLangTextEngine]:
    settings = {"model": str(folder), "gpus": 1, "trust_remote_code": True, "max_running_requests": at_once}
    settings |= {"max_total_tokens": memory, "engine_args": ON_CPU | {"log_level": "info"}}
    made = SGLangTextEngine(TextSettings.model_validate(settings))
    try:
        yield made
    finally:
        made.close()


async def events(engine: SGLangTextEngine, task: TextTask) -> list[TextEvent]:
    return [event async for event in engine.generate(task)]


def text(found: list[TextEvent]) -> str:
    return "".join(event.text for event in found if isinstance(event, TextBlock))


async def test_prompts_that_join_change_no_text_and_save_steps(
    sdar: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tasks = [replace(TASK, prompt=f"{i}{' A tale of boats.' * (2 * i)}", max_tokens=28 - 4 * i) for i in range(4)]
    steps: dict[str, int] = {}
    written: dict[str, list[str]] = {}
    for mixed in ("0", "1"):
        monkeypatch.setenv(mixed_batches.SWITCH, mixed)
        with engine(sdar, at_once=4, memory=2048) as running:
            capfd.readouterr()
            amid = await asyncio.gather(*(events(running, task) for task in tasks))
            steps[mixed] = len(re.findall("Prefill batch", "".join(capfd.readouterr())))  # so SGLang calls each step
            alone = [text(await events(running, task)) for task in tasks]
        written[mixed] = [text(each) for each in amid]
        assert written[mixed] == alone
    assert written["0"] == written["1"]
    assert len(set(written["1"])) == len(tasks)
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
        before = text(await events(running, TASK))

        async def give_up(i: int) -> None:
            prompt = f"{'A tale of boats. ' * chance.randrange(8)}{i}"
            task = replace(TASK, prompt=prompt, max_tokens=100, in_blocks=bool(chance.randrange(2)))
            work = asyncio.create_task(events(running, task))
            await asyncio.sleep(chance.uniform(0, 2))
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

        for _ in range(4):
            await asyncio.gather(*(give_up(i) for i in range(8)))
            assert text(await events(running, TASK)) == before
        await asyncio.sleep(3)  # it checks when it is idle
        await running.check_health()
