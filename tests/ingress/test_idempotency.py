"""The same request sent twice is one piece of work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import orjson
import pytest

from serve_app.errors import GenerationFailed
from serve_app.ingress.idempotency import RETRY_WINDOW_S
from serve_app.ingress.services import ModelClient, Services
from serve_app.storage.names import is_made_here
from serve_app.tasks import ImageEvent, ImageResult, ImageTask, ModelCard
from tests.ingress.conftest import Held, Running, Serving, client_of, with_client
from tests.ingress.endpoints import bearer
from tests.ingress.images import png
from tests.ingress.videos import BODY, FORM, ended

IMAGE = {"prompt": "a", "size": "64x64", "nvext": {"num_inference_steps": 1}}
CHAT = {"messages": [{"role": "user", "content": "Tell me a story about a fox."}], "max_tokens": 32, "temperature": 1.0}


# --- videos ---------------------------------------------------------------------------------------------------------


async def test_a_key_stands_for_one_job(held: tuple[Held, Running], key: dict[str, str]) -> None:
    replica, running = held
    form: dict[str, Any] = {name: (None, value) for name, value in FORM.items()}
    form["input_reference"] = ("a.png", png(), "image/png")
    async with running.client() as client:
        first, again = [(await client.post("/v1/videos", files=form, headers=key)).json() for _ in range(2)]
        assert first["id"] == again["id"]  # httpx draws a new boundary for each form
        for change in ({"prompt": (None, "another")}, {"input_reference": ("a.png", png(32, 32))}):
            answer = await client.post("/v1/videos", files={**form, **change}, headers=key)
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")
        replica.release()
        assert (await ended(client, first))["status"] == "completed"
        assert (await client.post("/v1/videos", files=form, headers=key)).json()["status"] == "completed"
        assert replica.runs == 1


async def test_at_once_they_are_still_one(held: tuple[Held, Running], key: dict[str, str]) -> None:
    replica, running = held
    async with running.client() as client:
        send = [client.post("/v1/videos", json=BODY, headers={**key, "Prefer": "respond-async"}) for _ in range(8)]
        answers = await asyncio.gather(*send)
        assert len({answer.json()["id"] for answer in answers}) == 1
        replica.release()
        joined = await client.post("/v1/videos", json=BODY, headers=key)
        assert (joined.json()["id"], joined.json()["status"]) == (answers[0].json()["id"], "completed")


async def test_a_job_that_failed_or_is_gone_is_run_again(held: tuple[Held, Running], key: dict[str, str]) -> None:
    replica, running = held
    headers = {**key, "Prefer": "respond-async"}
    async with running.client() as client:
        first = (await client.post("/v1/videos", json=BODY, headers=headers)).json()
        await client.post(f"/v1/videos/{first['id']}/cancel")
        second = (await client.post("/v1/videos", json=BODY, headers=headers)).json()
        assert first["id"] != second["id"]
        assert (await client.post("/v1/videos", json=BODY, headers=headers)).json()["id"] == second["id"]
        other = await client.post("/v1/videos", json={**BODY, "prompt": "other"}, headers=headers)
        assert other.status_code == 400
        await client.delete(f"/v1/videos/{second['id']}")
        third = await client.post("/v1/videos", json=BODY, headers=headers)
        assert third.status_code == 200, third.text
        assert third.json()["id"] not in (first["id"], second["id"])
        replica.release()


async def test_a_refused_request_does_not_use_up_its_key(held: tuple[Held, Running], key: dict[str, str]) -> None:
    replica, running = held
    async with running.client() as client:
        made = [(await client.post("/v1/videos", json={"prompt": "fill"})).json() for _ in range(3)]
        headers = {**key, "Prefer": "respond-async"}
        assert (await client.post("/v1/videos", json=BODY, headers=headers)).status_code == 429
        await client.post(f"/v1/videos/{made[0]['id']}/cancel")
        replica.release()
        for video in made:
            await ended(client, video)
        assert (await client.post("/v1/videos", json=BODY, headers=headers)).status_code == 200


async def test_openais_retries_without_a_key_find_their_job(client: httpx.AsyncClient) -> None:
    form: Any = {name: (None, value) for name, value in {**FORM, "prompt": "a retried raccoon"}.items()}

    async def send(count: str) -> str:
        answer = await client.post("/v1/videos", files=form, headers={"x-stainless-retry-count": count})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    lost = await send("1")  # a retry whose first try never arrived is a job like any other
    first = await send("0")
    assert lost != first
    assert [await send("1"), await send("2")] == [first, first]
    second = await send("0")  # a caller who asks twice gets two
    assert second not in (lost, first)
    assert await send("1") == second
    await client.delete(f"/v1/videos/{second}")
    assert await send("1") not in (lost, first, second)


async def test_a_retry_after_more_than_ten_minutes_is_a_new_request(
    client: httpx.AsyncClient, running: Running
) -> None:
    body = {**BODY, "prompt": "a raccoon of long ago"}

    async def send(count: str) -> str:
        headers = {"x-stainless-retry-count": count, "Prefer": "respond-async"}
        return (await client.post("/v1/videos", json=body, headers=headers)).json()["id"]

    first = await send("0")
    store = running.services.store
    kept = [(info.key, await store.get(info.key)) for info in await store.list("idempotency/public/")]
    [(key, record)] = [(key, orjson.loads(raw)) for key, raw in kept if first.encode() in raw]

    async def grow_older(seconds: float) -> None:
        record["created_at"] -= seconds
        await store.put(key, orjson.dumps(record))

    await grow_older(RETRY_WINDOW_S - 30)
    assert await send("1") == first
    await grow_older(31)
    assert await send("1") != first


async def test_a_retry_finds_its_job_though_another_caller_asked_for_the_same(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEYS", "carol:sk-carol,dave:sk-dave")

    async def send(client: httpx.AsyncClient, count: str) -> str:
        headers = {"x-stainless-retry-count": count, "Prefer": "respond-async"}
        return (await client.post("/v1/videos", json=BODY, headers=headers)).json()["id"]

    with serving(access={"keys_env": "API_KEYS"}) as running:
        async with (
            running.client(headers=bearer("sk-carol")) as carol,
            running.client(headers=bearer("sk-dave")) as dave,
        ):
            hers, his = await send(carol, "0"), await send(dave, "0")
            assert hers != his
            assert (await send(carol, "1"), await send(dave, "1")) == (hers, his)


async def test_a_remix_has_a_key_too(client: httpx.AsyncClient, key: dict[str, str]) -> None:
    source = (await client.post("/v1/videos", json=BODY)).json()["id"]
    path = f"/v1/videos/{source}/remix"
    first, again = [(await client.post(path, json={"prompt": "other"}, headers=key)).json()["id"] for _ in range(2)]
    assert first == again
    assert (await client.post("/v1/videos", json={"prompt": "other"}, headers=key)).status_code == 400


# --- images and text ------------------------------------------------------------------------------------------------


async def test_an_image_is_made_once(client: httpx.AsyncClient, key: dict[str, str]) -> None:
    first, again = [await client.post("/v1/images/generations", json=IMAGE, headers=key) for _ in range(2)]
    assert first.json() == again.json()
    assert (await client.get(again.json()["data"][0]["url"])).status_code == 200
    other = await client.post("/v1/images/generations", json={**IMAGE, "n": 2}, headers=key)
    assert (other.status_code, other.json()["error"]["param"]) == (400, "Idempotency-Key")
    free = await client.post("/v1/images/generations", json=IMAGE)
    assert free.json()["nvext"]["seeds"] != first.json()["nvext"]["seeds"]


async def test_base64_and_joining_the_one_in_flight(client: httpx.AsyncClient, key: dict[str, str]) -> None:
    body = {**IMAGE, "n": 2, "response_format": "b64_json"}
    send = [client.post("/v1/images/generations", json=body, headers=key) for _ in range(4)]
    first, *others = [answer.json() for answer in await asyncio.gather(*send)]
    assert all(other == first for other in others)
    assert len(first["data"]) == 2


async def test_text_is_made_once(client: httpx.AsyncClient, key: dict[str, str]) -> None:
    first, again = [await client.post("/v1/chat/completions", json=CHAT, headers=key) for _ in range(2)]
    assert first.json() == again.json()
    body = {"prompt": "Once upon a time,", "max_tokens": 32, "temperature": 1.0}
    own = {"Idempotency-Key": key["Idempotency-Key"] + "-2"}
    first, again = [await client.post("/v1/completions", json=body, headers=own) for _ in range(2)]
    assert first.json() == again.json()
    assert (await client.post("/v1/completions", json=body, headers=key)).status_code == 400


async def events_of(client: httpx.AsyncClient, path: str, body: dict[str, Any], key: dict[str, str]) -> list[Any]:
    answer = await client.post(path, json={**body, "stream": True}, headers=key)
    assert answer.status_code == 200, answer.text
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return [orjson.loads(each) for each in data if each != "[DONE]"]


async def test_a_streamed_text_is_made_once(client: httpx.AsyncClient, key: dict[str, str]) -> None:
    path, body = "/v1/chat/completions", {**CHAT, "max_tokens": 64, "n": 2, "stream_options": {"include_usage": True}}
    first, again = [await events_of(client, path, body, key) for _ in range(2)]

    def text(chunks: list[Any]) -> list[str]:
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        return ["".join(c["delta"].get("content", "") for c in choices if c["index"] == index) for index in (0, 1)]

    assert text(first) == text(again)
    assert len(set(text(first))) == 2
    assert {(chunk["id"], chunk["created"]) for chunk in first} == {(chunk["id"], chunk["created"]) for chunk in again}
    assert first[-1]["usage"] == again[-1]["usage"]
    whole = await client.post(path, json=body | {"stream": False, "stream_options": None}, headers=key)
    assert (whole.status_code, whole.json()["error"]["param"]) == (400, "Idempotency-Key")


async def test_a_streamed_image_is_made_once(client: httpx.AsyncClient, key: dict[str, str]) -> None:
    body = {**IMAGE, "partial_images": 1, "nvext": {"num_inference_steps": 2}}
    first, again = [await events_of(client, "/v1/images/generations", body, key) for _ in range(2)]
    # the events of a stream with a key are made from its result, which has no previews
    assert [each["type"] for each in first] == ["image_generation.completed"]
    assert again == first


class Hanging:
    """An image client whose first call never ends."""

    def __init__(self, inner: ModelClient) -> None:
        self._inner = inner
        self.began = threading.Event()

    async def describe(self) -> ModelCard:
        return await self._inner.describe()

    async def generate(self, task: ImageTask) -> ImageResult:
        if not self.began.is_set():
            self.began.set()
            await asyncio.Event().wait()
        return await self._inner.generate(task)

    def stream(self, task: ImageTask) -> AsyncGenerator[ImageEvent, None]:
        return self._inner.stream(task)


async def test_a_stream_that_its_client_left_is_made_anew(
    serving: Serving, services: Services, key: dict[str, str]
) -> None:
    hanging = Hanging(client_of(services, "image"))
    with serving(lambda own: with_client(own, "image", hanging)) as running:
        async with running.client() as client:
            left = asyncio.create_task(events_of(client, "/v1/images/generations", IMAGE, key))
            assert await asyncio.to_thread(hanging.began.wait, 30)
            left.cancel()
            [made] = await events_of(client, "/v1/images/generations", IMAGE, key)
            assert made["type"] == "image_generation.completed"


class Failing:
    """An image client that fails its first call."""

    def __init__(self, inner: ModelClient) -> None:
        self._inner = inner
        self.calls = 0

    async def describe(self) -> ModelCard:
        return await self._inner.describe()

    async def generate(self, task: ImageTask) -> ImageResult:
        self.calls += 1
        if self.calls == 1:
            raise GenerationFailed("out of memory")
        return await self._inner.generate(task)

    def stream(self, task: ImageTask) -> AsyncGenerator[ImageEvent, None]:
        return self._inner.stream(task)


async def test_an_error_is_not_replayed(serving: Serving, services: Services, key: dict[str, str]) -> None:
    failing = Failing(client_of(services, "image"))
    with serving(lambda own: with_client(own, "image", failing)) as running:
        async with running.client() as client:
            statuses = [
                (await client.post("/v1/images/generations", json=IMAGE, headers=key)).status_code for _ in range(3)
            ]
            assert (statuses, failing.calls) == ([500, 200, 200], 2)


@pytest.mark.parametrize("value", ["", "x" * 256])
async def test_a_key_has_a_length(client: httpx.AsyncClient, value: str) -> None:
    for path, body in (("/v1/videos", BODY), ("/v1/images/generations", IMAGE), ("/v1/chat/completions", CHAT)):
        answer = await client.post(path, json=body, headers={"Idempotency-Key": value})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Idempotency-Key")


async def test_all_that_is_written_has_a_name_of_ours(running: Running, key: dict[str, str]) -> None:
    """Or what expiry leaves alone as a stranger's would stay for ever."""
    form: dict[str, Any] = {name: (None, value) for name, value in FORM.items()}
    form["input_reference"] = ("a.png", png(), "image/png")
    store = running.services.store
    before = {info.key for info in await store.list("")}  # other tests name what they like
    async with running.client() as client:
        assert (await client.post("/v1/images/generations", json=IMAGE, headers=key)).status_code == 200
        chat = {**key, "Idempotency-Key": key["Idempotency-Key"] + " chat"}
        assert (await client.post("/v1/chat/completions", json=CHAT, headers=chat)).status_code == 200
        video = {**key, "Idempotency-Key": key["Idempotency-Key"] + " video"}
        job = (await client.post("/v1/videos", files=form, headers=video)).json()
        await ended(client, job)
        again = {"x-stainless-retry-count": "0"}
        await client.post(f"/v1/videos/{job['id']}/remix", json={"prompt": "b"}, headers=again)
    written = {info.key for info in await store.list("")} - before
    assert {key.partition("/")[0] for key in written} >= {"media", "jobs", "idempotency"}
    assert [key for key in written if not is_made_here(key)] == []
