"""With API keys on, what one caller has made is nobody else's: each file, and each URL once its time is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest

from serve_app.ingress.auth import owner_of
from tests.ingress.conftest import Running, Serving
from tests.ingress.endpoints import bearer
from tests.ingress.images import FOX, IMAGES
from tests.ingress.videos import BODY


@pytest.fixture
def locked(serving: Serving) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("API_KEYS", "carol:sk-carol,dave:sk-dave")
        with serving(access={"keys_env": "API_KEYS"}, media={"url_ttl_s": 2}) as running:
            yield running


async def test_no_file_of_another_is_read(locked: Running) -> None:
    async with (
        locked.client(headers=bearer("sk-carol")) as carol,
        locked.client(headers=bearer("sk-dave")) as dave,
        locked.client() as anyone,
    ):
        video = (await carol.post("/v1/videos", json=BODY)).json()
        made = (await carol.post(IMAGES, json=FOX)).json()
        film, picture = (httpx.URL(each["data"][0]["url"]).path for each in (video, made))
        thumbnail, sheet = (film.replace("-0.mp4", end) for end in ("-1.webp", "-2.jpeg"))
        for path in (film, picture, thumbnail, sheet):
            assert (await carol.get(path)).status_code == 200, path
            assert (await dave.get(path)).status_code == 403, path
            assert (await anyone.get(path)).status_code == 401, path
        for variant in ("video", "thumbnail", "spritesheet"):
            content = f"/v1/videos/{video['id']}/content?variant={variant}"
            assert (await carol.get(content)).status_code == 200
            assert (await dave.get(content)).status_code == 404
            assert (await anyone.get(content)).status_code == 401


async def test_a_signed_url_ends_with_its_time(locked: Running) -> None:
    async with locked.client(headers=bearer("sk-carol")) as carol, locked.client() as anyone:
        url = httpx.URL((await carol.post(IMAGES, json=FOX)).json()["data"][0]["url"])
        expires = int(url.params["expires"])
        assert expires <= time.time() + 2
        # a later time is another URL, for which no one has the signature
        assert (await anyone.get(url.copy_set_param("expires", str(expires + 3600)))).status_code == 403
        await asyncio.sleep(expires + 1.1 - time.time())
        answer = await anyone.get(url)
        assert answer.status_code == 403
        assert "expired" in answer.json()["error"]["message"]
        assert (await carol.get(url.copy_with(query=None))).status_code == 200


async def test_records_are_nobodys_to_fetch(locked: Running) -> None:
    async with locked.client(headers=bearer("sk-carol")) as carol:
        video = (await carol.post("/v1/videos", json=BODY)).json()
        jobs = f"jobs/{owner_of('carol')}/{video['id']}"
        assert await locked.services.store.exists(f"{jobs}/request.json")
        for key in (f"{jobs}/request.json", "ledger/", ".secret", ".meta/x", f"media/../{jobs}/request.json"):
            assert (await carol.get(f"/v1/media/{key}")).status_code in (403, 404), key
