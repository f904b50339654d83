"""Images that a video starts from or ends with, and what a model without them refuses."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from serve_app.errors import GenerationFailed
from serve_app.ingress.services import Services
from serve_app.jobs.attempt import start
from serve_app.tasks import ModelCard
from tests.ingress.conftest import Serving, with_client
from tests.ingress.images import data_url, png
from tests.ingress.videos import BODY, FORM, SMALL, ended, newest_id


async def test_image_to_video_by_upload_url_and_object(client: httpx.AsyncClient) -> None:
    url = data_url(png())
    form: dict[str, Any] = {name: (None, value) for name, value in FORM.items()}
    uploaded = await client.post("/v1/videos", files={**form, "input_reference": ("a.png", png(), "image/png")})
    assert uploaded.status_code == 200, uploaded.text
    by_url = await client.post("/v1/videos", json={**BODY, "input_reference": url})
    by_object = await client.post("/v1/videos", json={**BODY, "input_reference": {"image_url": url}})
    without = await client.post("/v1/videos", json=BODY)
    videos = [await ended(client, answer.json()) for answer in (uploaded, by_url, by_object, without)]
    files = [(await client.get(video["data"][0]["url"])).content for video in videos]
    assert files[0] == files[1] == files[2] != files[3]

    remix = (await client.post(f"/v1/videos/{videos[0]['id']}/remix", json={"prompt": BODY["prompt"]})).json()
    await client.delete(f"/v1/videos/{videos[0]['id']}")  # the remix has an input of its own
    remix = await ended(client, remix)
    assert (await client.get(remix["data"][0]["url"])).content == files[0]


class BothEnds:
    """A model that goes from a first frame to a last one."""

    def __init__(self, own: Services) -> None:
        self._own = own
        self.frames: list[tuple[bytes | None, bytes | None]] = []

    async def describe(self) -> ModelCard:
        able = frozenset({"image_to_video", "last_frame"})
        return ModelCard(model="demo/wan-tiny", kind="video", engine="diffusers", capabilities=able)

    async def run(self, owner: str, job_id: str) -> None:
        attempt = await start(self._own.jobs, owner, job_id)
        assert attempt is not None
        keys = (attempt.task.input_key, attempt.task.last_frame_key)
        first, last = [await self._own.store.get(key) if key else None for key in keys]
        self.frames.append((first, last))
        await attempt.fail(GenerationFailed("Enough was seen."))


async def test_a_first_and_a_last_frame_reach_the_model_and_its_remix(serving: Serving, services: Services) -> None:
    ends = BothEnds(services)
    first, last = png(), png(48, 80)
    form: dict[str, Any] = {name: (None, value) for name, value in FORM.items()}
    files = {"input_reference": ("a.png", first, "image/png"), "last_frame": ("b.png", last, "image/png")}
    urls = [data_url(first), data_url(last)]
    with serving(lambda own: with_client(own, "video", ends)) as running:
        async with running.client() as client:
            uploaded = await ended(client, (await client.post("/v1/videos", files={**form, **files})).json())
            plain = {name: value for name, value in BODY.items() if name != "nvext"}
            by_url = {**plain, "input_reference": urls[0], "last_frame": {"image_url": urls[1]}}
            await ended(client, (await client.post("/v1/videos", json=by_url)).json())
            remix = await client.post(f"/v1/videos/{uploaded['id']}/remix", json={"prompt": "the sea"})
            await ended(client, remix.json())
            assert ends.frames == [(first, last)] * 3


@pytest.mark.parametrize("beside", [{}, {"input_reference": True}])
async def test_a_last_frame_that_cannot_be_taken_is_refused(client: httpx.AsyncClient, beside: dict[str, Any]) -> None:
    url = data_url(png())
    answer = await client.post("/v1/videos", json={**BODY, "last_frame": url} | dict.fromkeys(beside, url))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "last_frame")


@pytest.mark.parametrize(
    "reference",
    [
        "not a url",
        "ftp://example.com/a.png",
        "http://127.0.0.1/a.png",
        "https://127.0.0.1/a.png",
        "data:image/png;base64,AAAA",
        "data:text/plain,hello",
        {"file_id": "file_1"},
        {"image_url": ""},
        [],
    ],
)
async def test_bad_input_images_make_no_job(client: httpx.AsyncClient, reference: Any) -> None:
    before = await newest_id(client)
    answer = await client.post("/v1/videos", json={**BODY, "input_reference": reference})
    assert (answer.status_code, answer.json()["error"]["param"].split(".")[0]) == (400, "input_reference")
    assert await newest_id(client) == before


class TextOnly:
    """A video client whose model cannot start from an image."""

    async def describe(self) -> ModelCard:
        return ModelCard(model="demo/wan-tiny", kind="video", engine="diffusers")

    async def run(self, owner: str, job_id: str) -> None:
        raise AssertionError("no job is made for what the model cannot do")


async def test_what_the_model_cannot_do_is_a_400_before_a_job_is_made(serving: Serving) -> None:
    with serving(lambda own: with_client(own, "video", TextOnly())) as running:
        async with running.client() as client:
            form: dict[str, Any] = {name: (None, value) for name, value in FORM.items()}
            image = await client.post("/v1/videos", files={**form, "input_reference": ("a.png", png())})
            assert (image.status_code, image.json()["error"]["param"]) == (400, "input_reference")
            expert = await client.post("/v1/videos", json={**BODY, "nvext": {**SMALL, "boundary_ratio": 0.9}})
            assert (expert.status_code, expert.json()["error"]["param"]) == (400, "nvext.boundary_ratio")
