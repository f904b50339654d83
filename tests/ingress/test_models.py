"""The models that are served: how a request finds its own among several of a kind, and what is told of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from serve_app.errors import QueueFull
from serve_app.tasks import ImageTask, ModelCard
from tests.ingress.conftest import Running, Serving, client_of, with_client
from tests.ingress.images import MODEL

IMAGES, VIDEOS, CHAT = "/v1/images/generations", "/v1/videos", "/v1/chat/completions"
FOX = {"prompt": "a fox", "size": "64x64", "nvext": {"num_inference_steps": 1, "seed": 1}}
RIVER = {"prompt": "a river", "size": "64x64", "nvext": {"num_frames": 5, "num_inference_steps": 1}}
MODELS: dict[str, Any] = {
    "poster": {"kind": "image", "model": "demo/flux-tiny", "served_name": "poster", "limits": {"max_side": 64}},
    "frames": {"kind": "video", "model": "demo/wan-tiny", "served_name": "frames", "defaults": {"fps": 5}},
}


@pytest.fixture(scope="module")
def several(serving: Serving) -> Iterator[Running]:
    """Two image models and two video models."""
    with serving(models=MODELS) as running:
        yield running


async def test_model_chooses_and_the_one_named_after_the_kind_is_the_default(several: Running) -> None:
    async with several.client() as client:
        large = {**FOX, "size": "128x128"}
        assert (await client.post(IMAGES, json=large)).status_code == 200
        assert (await client.post(IMAGES, json={**large, "model": "demo/flux-tiny"})).status_code == 200
        refused = await client.post(IMAGES, json={**large, "model": "poster"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "size")
        assert (await client.post(IMAGES, json={**FOX, "model": "poster"})).status_code == 200
        answers = {name: (await client.post(VIDEOS, json={**RIVER, "model": name})).json() for name in ("frames", None)}
        told = {name: (answer["model"], answer["nvext"]["fps"]) for name, answer in answers.items()}
        assert told == {"frames": ("frames", 5), None: ("demo/wan-tiny", 8)}
        remixed = (await client.post(f"{VIDEOS}/{answers['frames']['id']}/remix", json={"prompt": "a sea"})).json()
        assert remixed["model"] == "frames"


async def test_a_name_that_is_not_served_lists_those_that_fit(several: Running) -> None:
    async with several.client() as client:
        for path, body, names in ((IMAGES, FOX, "'demo/flux-tiny', 'poster'"), (VIDEOS, RIVER, "'frames'")):
            answer = await client.post(path, json={**body, "model": "dall-e-3"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
            assert names in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (IMAGES, {**FOX, "model": "frames"}, "'frames' makes videos: POST /v1/videos."),
        (VIDEOS, {**RIVER, "model": "poster"}, "'poster' makes images: POST /v1/images/generations."),
        (
            CHAT,
            {"model": "poster", "messages": [{"role": "user", "content": "Hello"}]},
            "'poster' makes images: POST /v1/images/generations.",
        ),
    ],
)
async def test_a_model_of_another_kind_is_told_its_endpoint(
    several: Running, path: str, body: dict[str, Any], message: str
) -> None:
    async with several.client() as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 400
    assert (answer.json()["error"]["param"], answer.json()["error"]["message"]) == ("model", message)


async def test_a_model_must_be_named_where_none_is_named_after_the_kind(serving: Serving) -> None:
    models = {**MODELS, "second": {**MODELS["poster"], "served_name": "second"}}
    with serving(image=None, models=models) as running:
        async with running.client() as client:
            answer = await client.post(IMAGES, json=FOX)
            assert (answer.status_code, answer.json()["error"]["param"]) == (404, "model")
            assert "'poster', 'second'" in answer.json()["error"]["message"]
            assert (await client.post(IMAGES, json={**FOX, "model": "second"})).status_code == 200
    with serving(image=None, models=MODELS) as running:
        async with running.client() as client:
            assert (await client.post(IMAGES, json=FOX)).status_code == 200


async def test_the_official_client_lists_and_uses_them(several: Running) -> None:
    async with openai.AsyncOpenAI(base_url=f"{several.url}/v1", api_key="none", max_retries=0) as client:
        ids = [model.id async for model in client.models.list()]
        assert ids == ["demo/llada2-tiny", "demo/flux-tiny", "demo/wan-tiny", "poster", "frames"]
        assert (await client.models.retrieve("poster")).id == "poster"
        made = await client.images.generate(model="poster", prompt="a fox", size="64x64")  # pyright: ignore[reportArgumentType, reportCallIssue]
        assert made.data


async def test_each_model_has_a_queue_and_a_row_of_ready_of_its_own(serving: Serving) -> None:
    class Full:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        async def describe(self) -> ModelCard:
            return await self._inner.describe()

        async def generate(self, task: ImageTask) -> Any:
            raise QueueFull(f"{task.model} is full.")

    with serving(lambda own: with_client(own, "poster", Full(client_of(own, "image"))), models=MODELS) as running:
        async with running.client() as client:
            assert (await client.post(IMAGES, json={**FOX, "model": "poster"})).status_code == 429
            assert (await client.post(IMAGES, json=FOX)).status_code == 200
            rows = (await client.get("/ready")).json()["models"]
    idle = {"state": "ready", "replicas": 1, "waiting": 0, "expected_wait_s": 0.0}
    ids = {"text": "demo/llada2-tiny", "image": "demo/flux-tiny", "video": "demo/wan-tiny", "poster": "poster"}
    assert rows == {name: {"model": id, **idle} for name, id in {**ids, "frames": "frames"}.items()}


async def test_a_job_whose_model_is_taken_out_waits_and_says_so(serving: Serving) -> None:
    class Gone:
        async def describe(self) -> ModelCard:
            raise QueueFull("gone")

        async def run(self, owner: str, job_id: str) -> None:
            raise QueueFull(f"gone: {owner} {job_id}")

    asynchronous = {"Prefer": "respond-async"}
    with serving(lambda own: with_client(own, "frames", Gone()), models=MODELS) as running:
        async with running.client() as client:
            job = (await client.post(VIDEOS, json={**RIVER, "model": "frames"}, headers=asynchronous)).json()
            assert (job["status"], job["status_message"]) == ("queued", None)
    with serving() as running:
        async with running.client() as client:
            told = (await client.get(f"{VIDEOS}/{job['id']}")).json()
            assert (told["status"], "'frames' is not served" in told["status_message"]) == ("queued", True)
            listed = (await client.get(VIDEOS, params={"limit": 1})).json()["data"][0]
            assert listed["status_message"] == told["status_message"]
            refused = await client.post(f"{VIDEOS}/{job['id']}/remix", json={"prompt": "a sea"})
            assert refused.json()["error"]["code"] == "model_not_found"
    with serving(models=MODELS) as running:
        async with running.client() as client:
            told = (await client.get(f"{VIDEOS}/{job['id']}")).json()
            assert told["status_message"] is None
            assert (await client.delete(f"{VIDEOS}/{job['id']}")).status_code == 200


async def test_the_description_lists_every_model_and_the_widest_limits(several: Running) -> None:
    async with several.client() as client:
        schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    [ids] = [
        member["enum"] for member in schemas["GenerationRequest"]["properties"]["model"]["anyOf"] if "enum" in member
    ]
    assert ids == ["demo/flux-tiny", "poster"]
    assert schemas["GenerationRequest"]["properties"]["model"]["default"] == "demo/flux-tiny"
    assert "64 to 256 pixels" in schemas["GenerationRequest"]["properties"]["size"]["description"]
    assert schemas["ModelId"]["enum"][-2:] == ["poster", "frames"]


async def test_models_are_listed_and_retrieved(client: httpx.AsyncClient, running: Running) -> None:
    listed = (await client.get("/v1/models")).json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["demo/llada2-tiny", MODEL, "demo/wan-tiny"]
    for path in (f"/v1/models/{MODEL}", "/v1/models/demo%2Fflux-tiny"):
        one = (await client.get(path)).json()
        assert (one["id"], one["object"]) == (MODEL, "model")
    missing = await client.get("/v1/models/nope/nope")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none") as official:
        assert (await official.models.retrieve(MODEL)).id == MODEL


async def test_a_kind_that_is_off_serves_no_model(serving: Serving) -> None:
    with serving(image=None) as running:
        async with running.client() as client:
            answer = await client.post(IMAGES, json=FOX | {"model": MODEL})
            assert answer.status_code == 404
            assert "none" in answer.json()["error"]["message"]
            assert len((await client.get("/v1/models")).json()["data"]) == 2
