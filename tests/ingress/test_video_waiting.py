"""Who waits for a video and who does not, what they are told, and what full queues and dead replicas mean to them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from serve_app.errors import GenerationFailed, Unavailable
from serve_app.ingress.services import ModelClient, Services
from serve_app.jobs.attempt import start
from serve_app.tasks import ModelCard
from tests.ingress.conftest import Held, Loop, Running, Serving, client_of, with_client
from tests.ingress.videos import BODY, FORM, ended, events_of, newest_id, submit

# --- who waits ------------------------------------------------------------------------------------------------------


async def test_which_way_a_post_goes(serving: Serving, services: Services, server_loop: Loop) -> None:
    replica = Held(client_of(services, "video"), server_loop)
    form: Any = {name: (None, value) for name, value in FORM.items()}
    plain = {"prompt": "p", "size": "64x64"}
    jobs: list[dict[str, Any]] = [{"json": plain}, {"files": form}]  # a form is one with nvext too
    synchronous: list[dict[str, Any]] = [
        {"json": {**plain, "response_format": "url"}},
        {"json": {**plain, "output_format": "mp4"}},
        {"json": {**plain, "stream": False}},
        {"json": {**plain, "nvext": {}}},
        {"json": plain, "headers": {"Prefer": "wait"}},
        {"files": form, "headers": {"Prefer": "wait"}},
    ]
    with serving(lambda own: with_client(own, "video", replica)) as running:
        async with running.client() as client:
            for one in jobs:
                job = await client.post("/v1/videos", **one)
                assert (job.status_code, job.json()["status"]) == (200, "queued")
                await client.delete(f"/v1/videos/{job.json()['id']}")
            for one in synchronous:
                with pytest.raises(httpx.ReadTimeout):
                    await client.post("/v1/videos", timeout=0.5, **one)
                await client.delete(f"/v1/videos/{await newest_id(client)}")
            replica.release()


async def test_preferences_decide(held: tuple[Held, Running]) -> None:
    replica, running = held
    async with running.client() as client:
        at_once = await client.post("/v1/videos", json=BODY, headers={"Prefer": "respond-async"})
        assert (at_once.status_code, at_once.json()["status"]) == (200, "queued")
        assert at_once.headers["preference-applied"] == "respond-async"
        waited = await client.post("/v1/videos", json={"prompt": "p"}, headers={"Prefer": "wait=1"})
        assert (waited.status_code, waited.json()["status"]) == (200, "queued")
        assert waited.headers["preference-applied"] == "wait=1"
        replica.release()
        async with asyncio.timeout(60):
            answer = await client.get(f"/v1/videos/{waited.json()['id']}/events")
        assert events_of(answer.text)[-1][1]["status"] == "completed"


async def test_sync_takes_a_preference_and_no_stream(held: tuple[Held, Running]) -> None:
    replica, running = held
    async with running.client() as client:
        answer = await client.post("/v1/videos/sync", json={**BODY, "stream": True})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stream")
        early = await client.post("/v1/videos/sync", json=BODY, headers={"Prefer": "wait=0"})
        assert (early.status_code, early.json()["status"]) == (200, "queued")
        assert early.headers["preference-applied"] == "wait=0"
        replica.release()
        await ended(client, early.json())


async def test_a_wait_that_is_over_names_the_job_which_goes_on(serving: Serving) -> None:
    with serving(limits={"sync_wait_s": 0.01}) as running:
        async with running.client() as client:
            for path in ("/v1/videos", "/v1/videos/sync"):
                answer = await client.post(path, json=BODY)
                error = answer.json()["error"]
                assert (answer.status_code, error["code"]) == (504, "timeout")
                id = next(word.strip("'") for word in error["message"].split() if word.startswith("'video_"))
                assert (await ended(client, {"id": id, "status": "queued", "progress": 0}))["status"] == "completed"


async def test_a_client_that_goes_away_leaves_its_job_running(held: tuple[Held, Running]) -> None:
    replica, running = held
    async with running.client() as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/videos", json=BODY, timeout=0.5)
        [video] = (await client.get("/v1/videos", params={"limit": 1})).json()["data"]
        assert video["status"] == "queued"
        replica.release()
        assert (await ended(client, video))["status"] == "completed"


async def test_looking_at_headers_waits_for_nothing(held: tuple[Held, Running]) -> None:
    replica, running = held
    async with running.client() as client:
        video = await submit(client)
        for path in ("", "/events"):
            answer = await client.head(f"/v1/videos/{video['id']}{path}", timeout=5)
            assert (answer.status_code, answer.content) == (200, b"")
        assert (await client.head(f"/v1/videos/{video['id']}/content")).status_code == 404
        replica.release()


# --- full queues, failures and dead replicas ------------------------------------------------------------------------


async def test_a_full_queue_is_a_429_that_says_when_to_come_back(held: tuple[Held, Running]) -> None:
    replica, running = held
    async with running.client() as client:
        made = [await submit(client) for _ in range(3)]  # one that would run, two that wait
        before = await newest_id(client)
        answer = await client.post("/v1/videos", json=BODY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        assert await newest_id(client) == before
        replica.release()
        for video in made:
            assert (await ended(client, video))["status"] == "completed"
        assert (await ended(client, await submit(client)))["status"] == "completed"


class Failing:
    """A video client whose engine breaks on every job, over the records that a replica would write."""

    def __init__(self, own: Services) -> None:
        self._jobs = own.jobs

    async def describe(self) -> ModelCard:
        return ModelCard(model="demo/wan-tiny", kind="video", engine="diffusers")

    async def run(self, owner: str, job_id: str) -> None:
        attempt = await start(self._jobs, owner, job_id)
        assert attempt is not None
        await attempt.fail(GenerationFailed("The engine is out of memory."))


async def test_a_failure_has_a_true_status_for_who_waits_and_is_a_200_to_who_asks(serving: Serving) -> None:
    with serving(lambda own: with_client(own, "video", Failing(own))) as running:
        async with running.client() as client:
            for path in ("/v1/videos", "/v1/videos/sync"):
                answer = await client.post(path, json=BODY)
                error = answer.json()["error"]
                assert (answer.status_code, error["code"]) == (500, "generation_failed")
                assert "out of memory" in error["message"]
                id = await newest_id(client)
                assert id in error["message"]
            told = await client.get(f"/v1/videos/{id}")
            assert (told.status_code, told.json()["status"]) == (200, "failed")
            assert told.json()["error"] == {"code": "generation_failed", "message": "The engine is out of memory."}
            assert (await client.get(f"/v1/videos/{id}/content")).status_code == 404
            [*_, (name, last)] = events_of((await client.get(f"/v1/videos/{id}/events")).text)
            assert (name, last["error"]["code"]) == ("video.failed", "generation_failed")
            streamed = await client.post("/v1/videos", json={**BODY, "stream": True})
            assert events_of(streamed.text)[-1][0] == "video.failed"


class Dying:
    """A video client whose replica dies under its first calls."""

    def __init__(self, inner: ModelClient, deaths: int) -> None:
        self._inner = inner
        self._deaths = deaths

    async def describe(self) -> ModelCard:
        return await self._inner.describe()

    async def run(self, owner: str, job_id: str) -> None:
        self._deaths -= 1
        if self._deaths == 1:
            raise RuntimeError("not even an error of ours")
        if self._deaths >= 0:
            raise Unavailable("The replica that ran this request cannot be reached.")
        await self._inner.run(owner, job_id)


async def test_a_job_is_handed_on_again_when_its_replica_died(serving: Serving, services: Services) -> None:
    dying = Dying(client_of(services, "video"), deaths=2)
    with serving(lambda own: with_client(own, "video", dying)) as running:
        async with running.client() as client:
            assert (await client.post("/v1/videos", json=BODY)).json()["status"] == "completed"
