"""/v1/chat/completions and /v1/completions as a caller sees them, on the demo checkpoint."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import openai
import pytest

from tests.ingress.conftest import Running

CHAT = "/v1/chat/completions"
MODEL = "demo/llada2-tiny"
HELLO: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello! How are you?"}]}
COUNT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Count from 10 to 30."}]}
"""Longer than any max_tokens here but one."""
COUNTED = ", ".join(map(str, range(10, 31))) + "."
STORY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Tell me a story about a fox."}]}
"""A text that depends on its seed."""


def openai_client(running: Running) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)


async def events_of(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> list[tuple[str | None, Any]]:
    """(name, data) of each server-sent event; data is None for [DONE]."""
    answer = await client.post(path, json=body | {"stream": True})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    events: list[tuple[str | None, Any]] = []
    for block in answer.text.strip().split("\n\n"):
        if block.startswith(":"):  # kept alive on a slow machine
            continue
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        events.append((lines.get("event"), None if lines["data"] == "[DONE]" else json.loads(lines["data"])))
    return events


async def test_a_chat_answers_in_openais_shape(client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, json=COUNT | {"max_tokens": 40, "temperature": 0.7})
    assert answer.status_code == 200, answer.text
    chat = answer.json()
    assert chat["id"].startswith("chatcmpl-")
    assert (chat["object"], chat["model"]) == ("chat.completion", MODEL)
    assert abs(chat["created"] - time.time()) < 60
    [choice] = chat["choices"]
    assert choice["message"]["role"] == "assistant"
    assert COUNTED.startswith(choice["message"]["content"])
    assert choice["finish_reason"] == "length"
    usage = chat["usage"]
    assert usage["completion_tokens"] == 40
    assert usage["total_tokens"] == usage["prompt_tokens"] + 40 > 40
    report = chat["nvext"]
    assert report["algorithm"] == "LowConfidence"
    assert report["denoising_steps"] > 0
    assert report["tokens_per_step"] == pytest.approx(40 / report["denoising_steps"], abs=0.01)
    timing = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert set(timing) == {"queue", "engine", "encode", "storage"}
    assert float(timing["engine"]) > 0


async def test_the_model_may_be_left_out(client: httpx.AsyncClient) -> None:
    body = {"messages": HELLO["messages"], "max_tokens": 1}
    assert (await client.post(CHAT, json=body)).json()["model"] == MODEL


async def test_an_unknown_model_is_404_that_lists_what_is_served(client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, json=HELLO | {"model": "gpt-4o"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert MODEL in error["message"]
    assert "flux" not in error["message"]


async def test_the_same_seed_gives_the_same_text(client: httpx.AsyncClient) -> None:
    body = STORY | {"max_tokens": 32, "temperature": 1.0, "seed": 7}
    texts = [(await client.post(CHAT, json=body)).json()["choices"][0]["message"]["content"] for _ in range(2)]
    assert texts[0] == texts[1]
    other = (await client.post(CHAT, json=body | {"seed": 8})).json()["choices"][0]["message"]["content"]
    assert other != texts[0]


async def test_n_choices_have_a_seed_each(client: httpx.AsyncClient) -> None:
    body = STORY | {"max_tokens": 16, "temperature": 1.0, "seed": 7}
    chat = (await client.post(CHAT, json=body | {"n": 3})).json()
    assert [choice["index"] for choice in chat["choices"]] == [0, 1, 2]
    assert chat["usage"]["completion_tokens"] == 48
    second = (await client.post(CHAT, json=body | {"seed": 8})).json()
    assert chat["choices"][1]["message"] == second["choices"][0]["message"]
    assert chat["usage"]["prompt_tokens"] == second["usage"]["prompt_tokens"]


async def test_a_stop_string_ends_the_text(client: httpx.AsyncClient) -> None:
    body = COUNT | {"max_tokens": 64}
    whole: str = (await client.post(CHAT, json=body)).json()["choices"][0]["message"]["content"]
    stop = whole[10:12]
    for value in (stop, [stop, "\u0000never"]):
        choice = (await client.post(CHAT, json=body | {"stop": value})).json()["choices"][0]
        assert choice["message"]["content"] == whole[: whole.index(stop)]
        assert choice["finish_reason"] == "stop"


async def test_a_stream_is_a_chunk_for_each_block(client: httpx.AsyncClient) -> None:
    body = COUNT | {"max_tokens": 80, "stream_options": {"include_usage": True}}
    events = await events_of(client, CHAT, body)
    assert events[-1] == (None, None)
    *blocks, end, usage = [data for _, data in events[:-1]]
    texts = [block["choices"][0]["delta"]["content"] for block in blocks]
    assert all(texts)
    assert len(texts) >= 3
    assert blocks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all("role" not in block["choices"][0]["delta"] for block in blocks[1:])
    assert all(block["usage"] is None and block["object"] == "chat.completion.chunk" for block in blocks)
    assert end["choices"][0]["finish_reason"] == "length"
    assert end["nvext"]["denoising_steps"] > 0
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 80
    whole = (await client.post(CHAT, json=COUNT | {"max_tokens": 80})).json()
    assert "".join(texts) == whole["choices"][0]["message"]["content"]


async def test_without_stream_options_no_chunk_has_usage(client: httpx.AsyncClient) -> None:
    events = await events_of(client, CHAT, HELLO | {"max_tokens": 8})
    assert all("usage" not in data for _, data in events[:-1])


async def test_the_first_block_comes_before_the_last_is_made(running: Running) -> None:
    arrived: list[float] = []
    began = time.monotonic()
    async with (
        running.client() as client,
        client.stream("POST", CHAT, json=STORY | {"max_tokens": 128, "stream": True}) as answer,
    ):
        async for line in answer.aiter_lines():
            arrived += [time.monotonic()] if line.startswith("data: {") else []
    *blocks, _ = arrived
    assert len(blocks) >= 3
    assert blocks[-1] - blocks[0] > 0.2 * (blocks[-1] - began), "the blocks came all at once"


async def test_denoising_steps_are_shown_where_asked_for(client: httpx.AsyncClient) -> None:
    events = await events_of(client, CHAT, STORY | {"max_tokens": 32, "nvext": {"annotations": ["denoising"]}})
    steps = [data["nvext"]["denoising"] for name, data in events if name == "denoising"]
    assert len(steps) > 1
    assert all(data["choices"] == [] for name, data in events if name == "denoising")
    for block in {step["block"] for step in steps}:
        own = [step for step in steps if step["block"] == block]
        masked = [step["masked"] for step in own]
        assert masked == sorted(masked, reverse=True)
        assert own[0]["step"] == 0
        assert own[0]["text"] == "\u2591" * masked[0], "a block begins all masked"
    assert all(step["text"].count("\u2591") == step["masked"] for step in steps)
    plain = await events_of(client, CHAT, STORY | {"max_tokens": 32})
    assert all(name is None for name, _ in plain)


async def test_several_choices_stream_side_by_side(client: httpx.AsyncClient) -> None:
    body = STORY | {"n": 2, "max_tokens": 32, "seed": 1, "temperature": 1.0, "stream_options": {"include_usage": True}}
    chunks = [data for _, data in (await events_of(client, CHAT, body))[:-1]]
    texts = ["", ""]
    reasons: list[Any] = [None, None]
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
            reasons[choice["index"]] = choice["finish_reason"] or reasons[choice["index"]]
    assert texts[0] != texts[1]
    assert all(texts)
    assert reasons == ["length", "length"]
    assert chunks[-1]["usage"]["completion_tokens"] == 64


async def test_dynamos_hints_are_named_in_the_answer(client: httpx.AsyncClient) -> None:
    nvext = {"agent_hints": {"priority": 5}, "greed_sampling": True, "top_k": 5, "ignore_eos": True}
    chat = (await client.post(CHAT, json=HELLO | {"max_tokens": 1, "nvext": nvext})).json()
    assert "agent_hints" in chat["nvext"]["ignored"]
    events = await events_of(client, CHAT, HELLO | {"max_tokens": 1, "nvext": nvext})
    [end] = [data for _, data in events if data and data["choices"][0]["finish_reason"]]
    assert "agent_hints" in end["nvext"]["ignored"]


async def test_completions(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/completions", json={"model": MODEL, "prompt": "Once upon a time,", "max_tokens": 20}
    )
    completion = answer.json()
    assert completion["id"].startswith("cmpl-")
    assert completion["object"] == "text_completion"
    [choice] = completion["choices"]
    assert len(choice["text"].split()) > 10
    assert (choice["finish_reason"], choice["logprobs"]) == ("length", None)
    assert completion["usage"]["completion_tokens"] == 20


async def test_completions_of_several_prompts(client: httpx.AsyncClient) -> None:
    body = {"prompt": ["Once upon a time,", "There once was"], "n": 2, "max_tokens": 4}
    completion = (await client.post("/v1/completions", json=body)).json()
    assert [choice["index"] for choice in completion["choices"]] == [0, 1, 2, 3]
    assert completion["usage"]["completion_tokens"] == 16


async def test_completions_stream(client: httpx.AsyncClient) -> None:
    events = await events_of(client, "/v1/completions", {"prompt": "Once upon a time,", "max_tokens": 40})
    assert events[-1] == (None, None)
    texts = [data["choices"][0]["text"] for _, data in events[:-1]]
    assert texts[-1] == ""
    assert all(texts[:-1])
    assert len(texts) >= 3
    assert events[-2][1]["choices"][0]["finish_reason"] == "length"
    assert {data["object"] for _, data in events[:-1]} == {"text_completion"}


async def test_what_nvext_asks_for_is_done(client: httpx.AsyncClient) -> None:
    async def said(nvext: dict[str, Any], **fields: Any) -> tuple[str, int]:
        body = STORY | {"max_tokens": 24, "nvext": nvext} | fields
        chat = (await client.post(CHAT, json=body)).json()
        return chat["choices"][0]["message"]["content"], chat["usage"]["prompt_tokens"]

    greedy, with_template = await said({}, temperature=0)
    hot = {"temperature": 2.0, "seed": 3}
    assert (await said({}, **hot))[0] != greedy
    assert (await said({"greed_sampling": True}, **hot))[0] == greedy
    assert (await said({"top_k": 1}, **hot))[0] == greedy
    assert (await said({"use_raw_prompt": True}))[1] < with_template
    # a model that ends its text goes on where it is told to
    ended = (await client.post(CHAT, json=HELLO | {"max_tokens": 64})).json()["choices"][0]
    on = (await client.post(CHAT, json=HELLO | {"max_tokens": 64, "nvext": {"ignore_eos": True}})).json()
    assert ended["finish_reason"] == "stop"
    assert (on["choices"][0]["finish_reason"], on["usage"]["completion_tokens"]) == ("length", 64)


async def test_a_stream_never_shows_its_stop(client: httpx.AsyncClient) -> None:
    whole: str = (await client.post(CHAT, json=COUNT | {"max_tokens": 96})).json()["choices"][0]["message"]["content"]
    stop = "20, 21"  # past the first block
    events = await events_of(client, CHAT, COUNT | {"max_tokens": 96, "stop": [stop]})
    chunks = [data["choices"][0] for _, data in events[:-1]]
    assert "".join(chunk["delta"].get("content", "") for chunk in chunks) == whole[: whole.index(stop)]
    assert chunks[-1]["finish_reason"] == "stop"
    assert all(chunk["delta"]["content"] for chunk in chunks[:-1]), "no chunk is empty"


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"logprobs": True}, "logprobs"),
        (CHAT, {"top_logprobs": 2}, "top_logprobs"),
        (CHAT, {"presence_penalty": 0.5}, "presence_penalty"),
        (CHAT, {"frequency_penalty": -0.5}, "frequency_penalty"),
        (CHAT, {"logit_bias": {"50256": -100}}, "logit_bias"),
        (CHAT, {"response_format": {"type": "json_object"}}, "response_format"),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "response_format"),
        (CHAT, {"tool_choice": "required", "tools": [{"type": "function"}]}, "tool_choice"),
        (CHAT, {"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        (CHAT, {"modalities": ["text", "audio"]}, "modalities"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content"),
        ("/v1/completions", {"logprobs": 1}, "logprobs"),
        ("/v1/completions", {"suffix": "the end"}, "suffix"),
        ("/v1/completions", {"echo": True}, "echo"),
        ("/v1/completions", {"best_of": 3, "n": 2}, "best_of"),
        ("/v1/completions", {"prompt": [1, 2, 3]}, "prompt"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(
    client: httpx.AsyncClient, path: str, fields: dict[str, Any], param: str
) -> None:
    for stream in (False, True):
        answer = await client.post(path, json=HELLO | {"prompt": "Once", "stream": stream} | fields)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", param)


async def test_what_means_nothing_here_is_taken(client: httpx.AsyncClient) -> None:
    fields: dict[str, Any] = {
        "user": "me",
        "store": False,
        "metadata": {"a": "b"},
        "parallel_tool_calls": True,
        "service_tier": "auto",
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": "auto",
        "presence_penalty": 0,
        "logit_bias": {},
        "response_format": {"type": "text"},
        "logprobs": False,
        "never_heard_of": [1],
    }
    assert (await client.post(CHAT, json=HELLO | {"max_tokens": 1} | fields)).status_code == 200


async def test_denoising_steps_of_a_completion(client: httpx.AsyncClient) -> None:
    body = {"prompt": "Once upon a time,", "max_tokens": 32, "nvext": {"annotations": ["denoising"]}}
    events = await events_of(client, "/v1/completions", body | {"stream_options": {"include_usage": True}})
    assert [name for name, _ in events].count("denoising") > 1
    assert events[-2][1]["usage"]["completion_tokens"] == 32
    assert "".join(data["choices"][0]["text"] for _, data in events[:-1] if data["choices"])


async def test_the_official_client_chats_and_streams(running: Running) -> None:
    async with openai_client(running) as client:
        messages: Any = HELLO["messages"]
        chat = await client.chat.completions.create(model=MODEL, messages=messages, max_tokens=40)
        assert chat.usage is not None
        assert 0 < chat.usage.completion_tokens < 40
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=messages,
            max_tokens=40,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"nvext": {"annotations": ["denoising"]}},
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == chat.choices[0].message.content
        assert chunks[-1].usage is not None
        completion = await client.completions.create(model=MODEL, prompt="Once upon a time,", max_tokens=3)
        assert completion.choices[0].text


async def test_the_official_client_sees_errors_as_its_own(running: Running) -> None:
    async with openai_client(running) as client:
        messages: Any = HELLO["messages"]
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="gpt-4o", messages=messages)
        assert missing.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as bad:
            await client.chat.completions.create(model=MODEL, messages=messages, logprobs=True)
        assert (bad.value.param, bad.value.code) == ("logprobs", "unsupported_parameter")
        assert bad.value.request_id
