"""Chat and completions: from the wire to tasks and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serve_app.errors import InvalidRequest, UnsupportedParameter
from serve_app.model_settings import TextDefaults, TextLimits, TextSettings
from serve_app.protocol.common import parse
from serve_app.protocol.completions import ChatAnswers, ChatRequest, CompletionAnswers, CompletionRequest
from serve_app.tasks import Message, TextBlock, TextEnd, TextResult, TextStep, TextTask

SETTINGS = TextSettings(
    model="m", limits=TextLimits(n=3, max_tokens=100, prompt_chars=50), defaults=TextDefaults(max_tokens=7)
)
END = TextEnd(
    finish_reason="stop",
    prompt_tokens=3,
    completion_tokens=8,
    algorithm="LowConfidence",
    denoising_steps=4,
    ignored=("temperature",),
)


def chat(**fields: Any) -> list[TextTask]:
    body = {"messages": [{"role": "user", "content": "hi"}]} | fields
    return parse(ChatRequest, body).to_tasks(SETTINGS, id="c", caller="public", submitted_at=1.0, traceparent="t")


def complete(**fields: Any) -> list[TextTask]:
    body = {"prompt": "hi"} | fields
    return parse(CompletionRequest, body).to_tasks(SETTINGS, id="c", caller="public", submitted_at=1.0)


def test_defaults_are_filled_and_sampling_is_left_to_the_engine() -> None:
    [task] = chat()
    assert task == TextTask(
        id="c",
        model="m",
        max_tokens=7,
        fewer_tokens=True,
        messages=(Message(role="user", content="hi"),),
        submitted_at=1.0,
        traceparent="t",
    )


def test_every_honoured_field_reaches_the_task() -> None:
    [task] = chat(
        messages=[
            {"role": "developer", "content": "be brief", "name": "x"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": None, "tool_calls": []},
        ],
        max_tokens=5,
        max_completion_tokens=6,
        stop="END",
        stream=True,
        temperature=0.5,
        top_p=0.9,
        seed=-3,
        nvext={"ignore_eos": True, "top_k": 20, "use_raw_prompt": True, "annotations": ["denoising", "other"]},
    )
    assert [(m.role, m.content) for m in task.messages] == [("system", "be brief"), ("user", "a\nb"), ("assistant", "")]
    assert (task.max_tokens, task.stop, task.temperature, task.top_p, task.seed) == (6, ("END",), 0.5, 0.9, -3)
    assert (task.ignore_eos, task.top_k, task.raw_prompt, task.show_steps) == (True, 20, True, True)


def test_steps_are_shown_in_streams_only() -> None:
    assert not chat(nvext={"annotations": ["denoising"]})[0].show_steps


def test_greedy_sampling_overrides_the_rest() -> None:
    [task] = chat(temperature=1.0, top_p=0.5, nvext={"greed_sampling": True, "top_k": 5})
    assert (task.temperature, task.top_p, task.top_k) == (0.0, None, None)


def test_n_fans_out_with_a_seed_each() -> None:
    assert [(t.id, t.seed) for t in chat(n=3, seed=7)] == [("c-0", 7), ("c-1", 8), ("c-2", 9)]
    assert [t.seed for t in chat(n=2)] == [None, None]
    assert chat(n=2, seed=2**63 - 1)[1].seed == -(2**63)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"n": 4}, "limits.n"),
        ({"max_tokens": 101}, "limits.max_tokens"),
        ({"messages": [{"role": "user", "content": "x" * 51}]}, "limits.prompt_chars"),
    ],
)
def test_beyond_a_limit_names_the_limit(fields: dict[str, Any], limit: str) -> None:
    with pytest.raises(InvalidRequest, match=limit):
        chat(**fields)


def test_a_chat_needs_some_text() -> None:
    with pytest.raises(InvalidRequest, match="no text") as raised:
        chat(messages=[{"role": "user", "content": " \n"}])
    assert raised.value.param == "messages"


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("logprobs", True),
        ("top_logprobs", 2),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -0.5),
        ("logit_bias", {"50256": -100}),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}),
        ("function_call", {"name": "f"}),
        ("modalities", ["text", "audio"]),
    ],
)
def test_what_a_diffusion_model_cannot_do_is_refused(param: str, value: Any) -> None:
    with pytest.raises(UnsupportedParameter) as raised:
        chat(**{param: value})
    assert raised.value.param == param


def test_harmless_values_of_the_same_fields_are_taken() -> None:
    assert chat(
        logprobs=False,
        top_logprobs=0,
        presence_penalty=0,
        frequency_penalty=0.0,
        logit_bias={},
        response_format={"type": "text"},
        tools=[{"type": "function", "function": {"name": "f"}}],
        tool_choice="auto",
        function_call="none",
        modalities=["text"],
        stream_options=None,
        store=True,
        service_tier="auto",
        something_new={"a": 1},
    )


@pytest.mark.parametrize(
    ("param", "value"), [("logprobs", 1), ("suffix", "x"), ("echo", True), ("best_of", 2), ("presence_penalty", 1)]
)
def test_completions_refuse_their_own(param: str, value: Any) -> None:
    with pytest.raises(UnsupportedParameter) as raised:
        complete(**{param: value})
    assert raised.value.param == param


def test_completions_take_several_prompts() -> None:
    tasks = complete(prompt=["a", "b"], best_of=1, echo=False, suffix="")
    assert [(t.id, t.prompt, t.raw_prompt) for t in tasks] == [("c", "a", True), ("c-p1", "b", True)]
    with pytest.raises(InvalidRequest, match=r"limits\.n"):
        complete(prompt=["a", "b"], n=2)
    with pytest.raises(InvalidRequest, match="no text"):
        complete(prompt=["a", ""])


@pytest.mark.parametrize("prompt", [[1, 2], [[1, 2]]])
def test_token_ids_are_no_prompt_here(prompt: Any) -> None:
    with pytest.raises(UnsupportedParameter, match="token ids") as raised:
        complete(prompt=prompt)
    assert raised.value.param == "prompt"


def test_dynamos_hints_are_taken_and_named() -> None:
    hints = {"agent_hints": {"priority": 1}, "backend_instance_id": 5, "cache_salt": "x"}
    asked = parse(ChatRequest, {"messages": [{"role": "user", "content": "hi"}], "nvext": hints})
    assert asked.ignored_hints() == ["agent_hints", "backend_instance_id", "cache_salt"]


def chat_answers(**fields: Any) -> ChatAnswers:
    asked = parse(ChatRequest, {"messages": [{"role": "user", "content": "hi"}]} | fields)
    return ChatAnswers(asked=asked, id="c", created=1, model="m")


def test_an_answer_counts_the_prompt_once_and_sums_the_rest() -> None:
    results = [TextResult(text=text, end=END) for text in ("a", "b")]
    answer = chat_answers(n=2, nvext={"cache_salt": "x"}).whole(results)
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["a", "b"]
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 16, "total_tokens": 19}
    assert answer["nvext"] == {
        "algorithm": "LowConfidence",
        "denoising_steps": 8,
        "tokens_per_step": 2.0,
        "ignored": ["cache_salt", "temperature"],
    }
    asked = parse(CompletionRequest, {"prompt": ["a", "b"]})
    several = CompletionAnswers(asked=asked, id="c", created=1, model="m").whole(results)
    assert several["usage"] == {"prompt_tokens": 6, "completion_tokens": 16, "total_tokens": 22}


def test_steps_that_the_engine_did_not_tell_are_null() -> None:
    result = TextResult(text="a", end=replace(END, denoising_steps=0))
    told = chat_answers().whole([result])["nvext"]
    assert (told["denoising_steps"], told["tokens_per_step"]) == (None, None)


def test_chunks_say_the_role_once_for_each_choice() -> None:
    chunks = chat_answers(stream_options={"include_usage": True})
    first, again = (chunks.chunk(1, TextBlock(block=0, text=text, tokens=1)) for text in "ab")
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "a"}
    assert again["choices"][0]["delta"] == {"content": "b"}
    assert first["usage"] is None
    end = chunks.chunk(1, END)
    assert end["choices"][0]["finish_reason"] == "stop"
    assert chunks.chunk(0, END)["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    step = chunks.chunk(0, TextStep(block=2, step=3, text="a\u2591", masked=1))
    assert step["choices"] == []
