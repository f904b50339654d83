"""Results in S3 as a caller sees them: presigned URLs, redirects, and nothing served by ourselves but on request."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import ANY

import httpx
import pytest

from serve_app.deployments.image import ImageDeployment
from serve_app.deployments.video import VideoDeployment
from serve_app.ingress.services import Services
from serve_app.settings import Settings
from tests.ingress.conftest import Configure, Loop, Serving, with_client
from tests.ingress.endpoints import error_of, healthy
from tests.ingress.images import FOX, IMAGES, opened
from tests.ingress.videos import BODY
from tests.probing import probe
from tests.s3_server import S3Server


@dataclass(frozen=True)
class Engines:
    """Deployments that write to S3, and the settings of `media` that an application before them has too."""

    image: ImageDeployment
    video: VideoDeployment
    media: dict[str, Any]

    def use(self, own: Services) -> Services:
        return with_client(with_client(own, "image", self.image), "video", self.video)


@pytest.fixture
def engines(
    server_loop: Loop, configure: Configure, s3_server: S3Server, request: pytest.FixtureRequest
) -> Iterator[Engines]:
    media = {"root": f"s3://{s3_server.bucket}/{request.node.name}"}
    settings: Settings = configure(media=media)

    async def load() -> Engines:
        image, video = ImageDeployment(settings), VideoDeployment(settings)
        await image.check_health()
        await video.check_health()
        return Engines(image, video, media)

    loaded = server_loop.run(load())
    yield loaded

    async def close() -> None:
        await loaded.image.close()
        await loaded.video.close()

    server_loop.run(close())


async def test_results_are_fetched_from_s3_by_urls_that_cannot_be_changed(
    serving: Serving, engines: Engines, s3_server: S3Server
) -> None:
    with serving(engines.use, media=engines.media, text=None) as running:
        async with running.client() as client, httpx.AsyncClient() as anyone:
            url = httpx.URL((await client.post(IMAGES, json=FOX)).json()["data"][0]["url"])
            assert str(url).startswith(s3_server.endpoint)
            image = await anyone.get(url)
            assert (image.status_code, image.headers["content-type"]) == (200, "image/png")
            assert opened(image.content).size == (64, 64)

            video = (await client.post("/v1/videos", json=BODY)).json()
            [data] = video["data"]
            content = await client.get(f"/v1/videos/{video['id']}/content")
            assert (content.status_code, content.content) == (307, b"")
            followed = await anyone.get(content.headers["location"])
            assert followed.content == (await anyone.get(data["url"])).content
            assert probe(followed.content).frames == 5
            part = await anyone.get(content.headers["location"], headers={"Range": "bytes=4-7"})
            assert part.content == b"ftyp"  # with status 200, as rclone has it
            thumbnail = await client.get(f"/v1/videos/{video['id']}/content", params={"variant": "thumbnail"})
            assert (await anyone.get(thumbnail.headers["location"])).headers["content-type"] == "image/webp"

            for change in (
                {"X-Amz-Expires": "604800"},
                {"X-Amz-Signature": "0" * 64},
                {"X-Amz-Date": "20200101T000000Z"},
            ):
                assert (await anyone.get(url.copy_merge_params(change))).status_code in (400, 403)
            other = url.copy_with(path=httpx.URL(data["url"]).path)
            assert (await anyone.get(other)).status_code == 403
            assert (await anyone.get(url.copy_with(query=None))).status_code >= 400

            # what lies in S3 is not served at /v1/media
            key = url.path.split(engines.media["root"].rsplit("/", 1)[1] + "/")[1]
            assert (await client.get(f"/v1/media/{key}")).status_code == 404

            await client.delete(f"/v1/videos/{video['id']}")
            assert (await anyone.get(data["url"])).status_code == 404

    with serving(engines.use, media={**engines.media, "redirect": False}, text=None) as running:
        async with running.client() as client:
            video = (await client.post("/v1/videos", json=BODY)).json()
            content = f"/v1/videos/{video['id']}/content"
            whole = await client.get(content)
            assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
            assert whole.content == followed.content, "the same request gives the same bytes"
            part = await client.get(content, headers={"Range": "bytes=4-7"})
            assert (part.status_code, part.content) == (206, b"ftyp")

    with serving(engines.use, media={**engines.media, "public_url": "https://cdn.example/m"}) as running:
        async with running.client() as client:
            url = (await client.post(IMAGES, json=FOX)).json()["data"][0]["url"]
            assert url.startswith("https://cdn.example/m/media/public/")


async def test_while_storage_is_away_a_request_fails_with_a_true_status(
    serving: Serving, engines: Engines, s3_server: S3Server
) -> None:
    with serving(engines.use, media=engines.media, text=None) as running:
        async with running.client() as client:
            video = (await client.post("/v1/videos", json=BODY)).json()
            s3_server.stop()
            asked = [client.get(path) for path in ("/v1/videos", f"/v1/videos/{video['id']}")]
            for answer in await asyncio.gather(*asked):
                error = error_of(answer, 503)
                assert error["code"] == "storage_unavailable"
                assert s3_server.endpoint not in error["message"]
            assert (await client.get("/v1/models")).status_code == 200
            s3_server.start()
            assert (await client.get(f"/v1/videos/{video['id']}")).json() == video | {"data": ANY}


async def test_a_store_that_is_silent_holds_up_nothing_else(
    serving: Serving, engines: Engines, s3_server: S3Server
) -> None:
    """It takes connections and never answers: what needs no store is served, and what waits goes on afterwards."""
    with serving(engines.use, media=engines.media) as running:
        async with running.client() as client:
            job = f"/v1/videos/{(await client.post('/v1/videos', json=BODY)).json()['id']}"
            assert (await client.get(job)).status_code == 200
            s3_server.stop()
            with socket.create_server(("127.0.0.1", s3_server.port), backlog=128):
                waiting = [asyncio.create_task(client.get(job)) for _ in range(80)]  # more than there are threads
                for path in ("/health", "/v1/models", "/metrics"):
                    assert (await client.get(path)).status_code == 200
                await healthy(client)
                image = await client.post(IMAGES, json=FOX | {"response_format": "b64_json"})
                assert image.status_code == 200
                assert not any(task.done() for task in waiting)
            s3_server.start()
            assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
