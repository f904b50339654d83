"""What SGLang's text engine is started with, and how the answers of a played one are handed on."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from serve_app.engines.sglang.text import SGLangTextEngine, engine_arguments
from serve_app.errors import ContextLengthExceeded, EngineDied, GenerationFailed
from serve_app.model_settings import TextSettings
from serve_app.settings import Settings, resolve
from serve_app.tasks import Message, TextBlock, TextEnd, TextEvent, TextTask
from tests.engines.sglang.played import install

LLADA = "inclusionAI/LLaDA2.0-mini-preview"


def arguments(folder: Path, **text: Any) -> dict[str, Any]:
    written = Settings.model_validate({"models": {"text": text}})
    model = resolve(written, "gpu").served["text"]
    assert isinstance(model, TextSettings)
    return engine_arguments(model, folder)


@pytest.mark.parametrize(
    ("text", "trusted"),
    [
        ({}, True),  # the profile's own model
        ({"model": LLADA}, True),
        ({"model": "somebody/other"}, False),
        ({"model": "somebody/other", "trust_remote_code": True}, True),
        ({"trust_remote_code": False}, False),
    ],
)
def test_the_code_of_a_checkpoint_runs_only_where_the_settings_say_so(
    text: dict[str, Any], trusted: bool, tmp_path: Path
) -> None:
    assert arguments(tmp_path, **text)["trust_remote_code"] is trusted


def test_the_revision() -> None:
    assert "revision" not in arguments(Path())
    assert arguments(Path(), revision="v1")["revision"] == "v1"


def test_diffusion_gemma_takes_its_own_algorithm_and_attention(tmp_path: Path) -> None:
    llada = arguments(tmp_path, model=LLADA)
    assert (llada["dllm_algorithm"], llada["attention_backend"]) == ("LowConfidence", "flashinfer")
    gemma = arguments(tmp_path, model="google/diffusiongemma-26B-A4B-it", algorithm_config={"entropy_bound": 0.2})
    assert (gemma["dllm_algorithm"], gemma["attention_backend"]) == ("Gemma4Renoise", "triton")
    # SGLang reads it there alone
    assert yaml.safe_load(Path(gemma["dllm_algorithm_config"]).read_text()) == {
        "sampler_config": {"entropy_bound": 0.2}
    }


# --- generation -----------------------------------------------------------------------------------------------------

TASK = TextTask(id="t", model="m", prompt="one two", max_tokens=4)


class LowConfidence:
    """Stands for an algorithm of SGLang's: config.get("threshold")."""


class Words:
    """A tokenizer of words; the number of a token is the length of its word."""

    chat_template = "{{ messages }}"
    eos_token_id = 99

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [len(word) for word in text.split()]}

    def apply_chat_template(self, messages: list[dict[str, str]], **_: object) -> dict[str, list[int]]:
        return self(" ".join(f"{message['role']} {message['content']}" for message in messages))

    def decode(self, ids: list[int], **_: object) -> str:
        return "x" * len(ids)


class Played:
    """SGLang's Engine: a letter a token, two tokens a block. `hold` keeps it from going on after the first block."""

    def __init__(self, **_: object) -> None:
        self.process = subprocess.Popen(["sleep", "60"])
        self.hold = asyncio.Event()
        self.hold.set()
        self.fails: Exception | None = None
        self.asked: list[dict[str, Any]] = []
        self.aborted: list[str] = []
        self.tokenizer_manager = SimpleNamespace(
            _subprocess_watchdog=SimpleNamespace(stop=lambda: None),
            tokenizer=Words(),
            model_config=SimpleNamespace(hf_eos_token_id=[98], context_len=64),
            rid_to_state={},
            abort_request=self._abort,
        )

    def get_all_child_pids(self) -> list[int]:
        return [self.process.pid]

    def shutdown(self) -> None: ...

    async def async_generate(self, *, stream: bool, rid: str, **asked: Any) -> Any:
        self.asked.append(asked)
        if self.fails:
            raise self.fails
        chunks = self._chunks(asked["sampling_params"]["max_new_tokens"], rid)
        return chunks if stream else [chunk async for chunk in chunks][-1]

    async def _chunks(self, tokens: int, rid: str) -> AsyncIterator[dict[str, Any]]:
        for end in range(2, tokens + 1, 2):
            finish = {"type": "length"} if end == tokens or rid in self.aborted else None
            meta = {"finish_reason": finish, "prompt_tokens": len(self.asked[-1].get("input_ids", ()))}
            yield {"text": "abcdefgh"[:end], "output_ids": [1] * end, "meta_info": meta}
            await self.hold.wait()

    def _abort(self, rid: str) -> None:
        self.aborted.append(rid)
        self.hold.set()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[SGLangTextEngine]:
    algorithms = {"algo_name_to_cls": {"LowConfidence": LowConfidence}}
    entrypoint = {"Engine": Played}
    install(monkeypatch, {"sglang.srt.dllm.algorithm": algorithms, "sglang.srt.entrypoints.engine": entrypoint})
    before = signal.getsignal(signal.SIGQUIT)
    engine = SGLangTextEngine(TextSettings(model="m", gpus=1, algorithm="LowConfidence"))
    yield engine
    engine.close()
    played(engine).process.wait()
    signal.signal(signal.SIGQUIT, before)


def played(engine: SGLangTextEngine) -> Played:
    return engine._engine  # pyright: ignore


async def events(engine: SGLangTextEngine, task: TextTask) -> list[TextEvent]:
    return [event async for event in engine.generate(task)]


def texts(found: list[TextEvent]) -> list[str]:
    return [event.text for event in found if isinstance(event, TextBlock)]


async def test_blocks_as_they_come_or_all_at_once(engine: SGLangTextEngine) -> None:
    for in_blocks, blocks in ((True, ["ab", "cd"]), (False, ["abcd"])):
        *found, end = await events(engine, replace(TASK, in_blocks=in_blocks))
        assert texts(found) == blocks
        assert isinstance(end, TextEnd)
        assert (end.finish_reason, end.prompt_tokens, end.completion_tokens) == ("length", 2, 4)


async def test_the_prompt_is_sent_as_tokens(engine: SGLangTextEngine) -> None:
    chat = replace(TASK, prompt="", messages=(Message(role="user", content="hello you"),))
    for task in (TASK, chat, replace(chat, raw_prompt=True), replace(TASK, prompt="")):
        await events(engine, task)
    prompts = [{key: asked[key] for key in asked if key != "sampling_params"} for asked in played(engine).asked]
    assert prompts == [{"input_ids": [3, 3]}, {"input_ids": [4, 5, 3]}, {"input_ids": [5, 3]}, {"prompt": ""}]


async def test_a_reader_who_leaves_takes_the_request_out(engine: SGLangTextEngine) -> None:
    played(engine).hold.clear()
    async with aclosing(engine.generate(replace(TASK, max_tokens=8))) as reader:
        await anext(reader)
    assert len(played(engine).aborted) == 1


async def test_a_stop_string_takes_it_out_too(engine: SGLangTextEngine) -> None:
    played(engine).hold.clear()
    *blocks, end = await events(engine, replace(TASK, max_tokens=8, stop=("b",)))
    assert (texts(blocks), isinstance(end, TextEnd) and end.finish_reason) == (["a"], "stop")
    assert len(played(engine).aborted) == 1


async def test_a_process_that_ends_fails_who_waits_and_who_comes(engine: SGLangTextEngine) -> None:
    played(engine).hold.clear()
    waiting = [asyncio.create_task(events(engine, TASK)) for _ in range(2)]
    await asyncio.sleep(0)
    played(engine).process.kill()
    for found in await asyncio.gather(*waiting, events(engine, TASK), return_exceptions=True):
        assert isinstance(found, EngineDied)
    with pytest.raises(EngineDied, match="of the text engine ended"):
        await engine.check_health()
    assert played(engine).aborted == []


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(ValueError("too long"), ContextLengthExceeded), (RuntimeError("broken"), GenerationFailed)],
)
async def test_what_sglang_raises_is_told(
    engine: SGLangTextEngine, raised: Exception, expected: type[Exception]
) -> None:
    played(engine).fails = raised
    with pytest.raises(expected, match=str(raised)):
        await events(engine, TASK)
