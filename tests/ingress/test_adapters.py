"""Adapters and presets as callers see them: model ids of their own, scales, and what the answers and files tell."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator
from typing import Any

import diffusers
import httpx
import openai
import pytest
from PIL import Image

from serve_app import demo
from serve_app.deployments.image import ImageDeployment
from serve_app.deployments.video import VideoDeployment
from serve_app.ingress.services import Services
from tests.engines.diffusers.adapters import write_adapter
from tests.ingress.conftest import Configure, Loop, Running, Serving, with_client

IMAGES, VIDEOS = "/v1/images/generations", "/v1/videos"
BASE, WAN = "demo/flux-tiny", "demo/wan-tiny"
FOX: dict[str, Any] = {"prompt": "a fox", "size": "64x64", "response_format": "b64_json"}
RIVER: dict[str, Any] = {"prompt": "a river", "size": "64x64"}
QUICK = {"num_inference_steps": 1, "seed": 1}
SHORT = {"num_frames": 5, **QUICK}


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Models with adapters: two of the image model, one of the video model."""
    folder = tmp_path_factory.mktemp("loras")
    models = {
        "flux": diffusers.FluxTransformer2DModel.from_pretrained(demo.find(BASE), subfolder="transformer"),
        "wan": diffusers.WanTransformer3DModel.from_pretrained(demo.find(WAN), subfolder="transformer"),
    }
    wanted = (("pixel-art", "flux", 0.9), ("sketch", "flux", 1.0), ("rain", "wan", 1.0))
    files = {
        name: {"path": str(write_adapter(folder / f"{name}.safetensors", models[model], seed)), "scale": scale}
        for seed, (name, model, scale) in enumerate(wanted)
    }
    return {
        "image": {"adapters": {name: files[name] for name in ("pixel-art", "sketch")}},
        "video": {"adapters": {"rain": files["rain"]}},
    }


@pytest.fixture(scope="module")
def running(serving: Serving, configure: Configure, server_loop: Loop, loras: dict[str, Any]) -> Iterator[Running]:
    """The application over two deployments that have the adapters loaded."""
    settings = configure(**loras)

    async def load() -> tuple[ImageDeployment, VideoDeployment]:
        return ImageDeployment(settings), VideoDeployment(settings)

    image, video = server_loop.run(load())

    def changed(own: Services) -> Services:
        return with_client(with_client(own, "image", image), "video", video)

    with serving(changed, **loras) as running:
        yield running
    for deployment in (image, video):
        server_loop.run(deployment.close())


async def draw(client: httpx.AsyncClient, nvext: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    answer = await client.post(IMAGES, json={**FOX, **fields, "nvext": QUICK | (nvext or {})})
    assert answer.status_code == 200, answer.text
    return answer.json()


def file_of(answer: dict[str, Any]) -> bytes:
    return base64.b64decode(answer["data"][0]["b64_json"])


def told(data: bytes) -> dict[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return dict(image.info)


async def test_the_official_client_lists_them_with_their_parent_and_uses_them(running: Running) -> None:
    async with openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as client:
        parents = {model.id: (model.model_extra or {})["parent"] async for model in client.models.list()}
        assert parents == {
            "demo/llada2-tiny": None,
            BASE: None,
            "pixel-art": BASE,
            "sketch": BASE,
            WAN: None,
            "rain": WAN,
        }
        assert (await client.models.retrieve("pixel-art")).model_dump()["parent"] == BASE
        made = await client.images.generate(model="pixel-art", prompt="a fox", size="64x64")  # pyright: ignore[reportArgumentType, reportCallIssue]
        assert made.model_dump()["nvext"]["adapters"] == [{"name": "pixel-art", "scale": 0.9}]


async def test_by_its_model_id_or_beside_the_model_it_draws_the_same_file(running: Running) -> None:
    async with running.client() as client:
        by_id = await draw(client, model="pixel-art")
        beside = await draw(client, {"adapters": [{"name": "pixel-art"}]}, model=BASE)
        base = await draw(client)
        assert file_of(by_id) == file_of(beside) != file_of(base)
        assert by_id["nvext"]["adapters"] == beside["nvext"]["adapters"] == [{"name": "pixel-art", "scale": 0.9}]
        assert base["nvext"]["adapters"] == []
        assert {"model": BASE, "adapters": "pixel-art=0.9"}.items() <= told(file_of(by_id)).items()
        assert "adapters" not in told(file_of(base))
        stronger = await draw(client, {"adapters": [{"name": "pixel-art", "scale": 2}]}, model="pixel-art")
        assert stronger["nvext"]["adapters"] == [{"name": "pixel-art", "scale": 2.0}]
        assert file_of(stronger) != file_of(by_id)


async def test_requests_at_once_never_mix(running: Running) -> None:
    wanted: list[dict[str, Any]] = [
        {"model": "pixel-art"},
        {"model": "sketch"},
        {},
        {"model": "sketch", "nvext": {"adapters": [{"name": "pixel-art", "scale": -1}]}},
    ]
    async with running.client() as client:
        alone = [file_of(await draw(client, **each)) for each in wanted]
        assert len(set(alone)) == len(wanted)
        assert [
            file_of(each) for each in await asyncio.gather(*(draw(client, **each) for each in wanted * 3))
        ] == alone * 3


async def test_only_configured_ones_are_applied(running: Running) -> None:
    async with running.client() as client:
        for path, body, allowed in ((IMAGES, FOX, "'pixel-art', 'sketch'"), (VIDEOS, RIVER, "'rain'")):
            answer = await client.post(path, json={**body, "nvext": {"adapters": [{"name": "/etc/passwd"}]}})
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (400, "nvext.adapters")
            assert f"no adapter '/etc/passwd'; it has {allowed}." in error["message"]
        unknown = (await client.post(IMAGES, json={**FOX, "model": "rain2"})).json()["error"]
        assert (unknown["code"], "'pixel-art'" in unknown["message"]) == ("model_not_found", True)
        other = (await client.post(IMAGES, json={**FOX, "model": "rain"})).json()["error"]
        assert other["message"] == "'rain' makes videos: POST /v1/videos."


async def test_an_idempotency_key_stands_for_one_choice_of_adapters(running: Running) -> None:
    key = {"Idempotency-Key": "adapters-1"}
    bodies = [{**FOX, "nvext": {**QUICK, "adapters": [{"name": "sketch", "scale": scale}]}} for scale in (1, 1, 0.5)]
    async with running.client() as client:
        first, again, other = [await client.post(IMAGES, json=body, headers=key) for body in bodies]
    assert file_of(first.json()) == file_of(again.json())
    assert (other.status_code, other.json()["error"]["param"]) == (400, "Idempotency-Key")


async def test_a_form_takes_them_too(running: Running) -> None:
    async with running.client() as client:
        fields = {"model": WAN, "prompt": "a river", "size": "64x64"}
        nested = {"nvext": '{"num_frames": 5, "num_inference_steps": 1, "adapters": [{"name": "rain", "scale": 0.5}]}'}
        answer = await client.post(VIDEOS, files={name: (None, value) for name, value in (fields | nested).items()})
        assert answer.json()["nvext"]["adapters"] == [{"name": "rain", "scale": 0.5}]


async def test_a_job_bears_the_id_of_its_adapter_and_its_remix_keeps_it(running: Running) -> None:
    async with running.client() as client:
        made = (await client.post(VIDEOS, json={**RIVER, "model": "rain", "nvext": SHORT})).json()
        assert (made["status"], made["model"]) == ("completed", "rain")
        assert made["nvext"]["adapters"] == [{"name": "rain", "scale": 1.0}]
        base = (await client.post(VIDEOS, json={**RIVER, "nvext": SHORT})).json()
        files = [(await client.get(f"{VIDEOS}/{job['id']}/content")).content for job in (made, base)]
        assert files[0] != files[1]
        assert b"rain=1" in files[0]
        remix = (await client.post(f"{VIDEOS}/{made['id']}/remix", json={"prompt": "a sea"})).json()
        assert (remix["model"], remix["nvext"]["adapters"]) == ("rain", made["nvext"]["adapters"])


async def test_a_remix_of_an_adapter_that_is_gone_says_so(running: Running, serving: Serving) -> None:
    async with running.client() as client:
        with_it = {**RIVER, "nvext": {**SHORT, "adapters": [{"name": "rain"}]}}
        made = (await client.post(VIDEOS, json=with_it)).json()
    with serving() as without:
        async with without.client() as client:
            answer = await client.post(f"{VIDEOS}/{made['id']}/remix", json={"prompt": "a sea"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "nvext.adapters")


async def test_the_answer_tells_which_preset_was_used_and_what_it_did(running: Running) -> None:
    async with running.client() as client:
        steps: dict[str, tuple[str, int]] = {}
        for quality in ("low", "high", "auto", "standard"):
            answer = (await client.post(IMAGES, json={**FOX, "quality": quality})).json()
            steps[quality] = answer["quality"], answer["nvext"]["num_inference_steps"]
        assert steps == {"low": ("low", 4), "high": ("high", 16), "auto": ("auto", 8), "standard": ("auto", 8)}
        own = (await client.post(IMAGES, json={**FOX, "quality": "high", "nvext": QUICK})).json()
        assert (own["quality"], own["nvext"]["num_inference_steps"]) == ("high", 1)
        film = (await client.post(VIDEOS, json={**RIVER, "quality": "low", "nvext": {"num_frames": 5}})).json()["nvext"]
        assert (film["quality"], film["num_inference_steps"], film["step_caching"]) == ("low", 4, None)
