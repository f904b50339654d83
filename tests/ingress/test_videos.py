"""Every row of the video API, over a real loopback server, the real pipeline and a real store."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from serve_app.errors import GenerationFailed, Unavailable
from serve_app.ingress.services import ModelClient, Services
from serve_app.jobs.attempt import start
from serve_app.tasks import ModelCard
from tests.ingress.conftest import Loop, Running, Serving, client_of, with_client
from tests.probing import probe

SMALL = {"num_frames": 5, "fps": 4, "num_inference_steps": 1, "seed": 11}
BODY = {"prompt": "A curious raccoon", "size": "64x64", "nvext": SMALL}
FORM = {"prompt": "A curious raccoon", "size": "64x64", **{f"nvext[{name}]": str(each) for name, each in SMALL.items()}}
UNKNOWN = "video_" + "0" * 32


async def ended(client: httpx.AsyncClient, video: dict[str, Any], timeout_s: float = 60) -> dict[str, Any]:
    """The video when it is completed or failed, as a caller polls for it."""
    progress = 0
    async with asyncio.timeout(timeout_s):
        while video["status"] in ("queued", "in_progress"):
            assert video["progress"] >= progress
            progress = video["progress"]
            await asyncio.sleep(0.05)
            video = (await client.get(f"/v1/videos/{video['id']}")).json()
    return video


async def submit(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    """A job by multipart, as OpenAI's client makes it."""
    form = {name: (None, str(value)) for name, value in {**FORM, **fields}.items()}
    answer = await client.post("/v1/videos", files=form)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def newest_id(client: httpx.AsyncClient) -> str:
    return (await client.get("/v1/videos", params={"limit": 1})).json()["first_id"]


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    events: list[tuple[str, dict[str, Any]]] = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if lines:
            events.append((lines["event"], json.loads(lines["data"])))
    return events


class Held:
    """A video client whose replica is busy until `release`: what is handed to it waits, as in Serve's queue."""

    def __init__(self, inner: ModelClient, loop: Loop) -> None:
        self._inner = inner
        self._loop = loop
        self._free = asyncio.Event()
        self.runs = 0

    async def describe(self) -> ModelCard:
        return await self._inner.describe()

    async def run(self, owner: str, job_id: str) -> None:
        self.runs += 1
        await self._free.wait()
        await self._inner.run(owner, job_id)

    def release(self) -> None:
        self._loop.loop.call_soon_threadsafe(self._free.set)


@pytest.fixture
def held(serving: Serving, services: Services, server_loop: Loop) -> Iterator[tuple[Held, Running]]:
    """An application whose one video replica is busy, with room for two waiting jobs."""
    client = Held(client_of(services, "video"), server_loop)
    with serving(lambda own: with_client(own, "video", client), video={"max_queued": 2}) as running:
        yield client, running
        client.release()


# --- one job --------------------------------------------------------------------------------------------------------


async def test_a_job_from_its_request_to_its_files(client: httpx.AsyncClient) -> None:
    before = int(time.time())
    answer = await client.post("/v1/videos", files={name: (None, value) for name, value in FORM.items()})
    video = answer.json()
    assert answer.status_code == 200
    assert 250 <= int(answer.headers["openai-poll-after-ms"]) <= 5000
    assert answer.headers["x-request-id"]
    assert video["id"].startswith("video_")
    assert (video["object"], video["status"], video["data"], video["error"]) == ("video", "queued", [], None)
    assert (video["seconds"], video["size"], video["prompt"]) == ("1.25", "64x64", "A curious raccoon")
    assert before <= video["created_at"] == video["created"] <= time.time()
    assert video["expires_at"] - video["created_at"] in (7 * 86400, 7 * 86400 - 1)

    video = await ended(client, video)
    assert (video["status"], video["progress"], video["error"]) == ("completed", 100, None)
    assert video["completed_at"] >= video["created_at"]
    assert video["inference_time_s"] > 0
    assert video["nvext"]["seed"] == 11
    [data] = video["data"]
    assert (data["output_format"], data["fps"], data["b64_json"]) == ("mp4", 4, None)

    by_url = await client.get(data["url"])
    assert (await client.get(data["thumbnail_url"])).headers["content-type"] == "image/webp"
    content = await client.get(f"/v1/videos/{video['id']}/content")
    assert by_url.content == content.content
    assert content.headers["content-type"] == "video/mp4"
    info = probe(content.content)
    assert (info.frames, info.fps, info.width, info.height) == (5, 4, 64, 64)


async def test_content_variants_and_ranges(client: httpx.AsyncClient) -> None:
    video = await ended(client, await submit(client))
    content = f"/v1/videos/{video['id']}/content"
    whole = await client.get(content, params={"variant": "video"})
    part = await client.get(content, headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert part.headers["content-range"] == f"bytes 4-7/{len(whole.content)}"
    assert (await client.get(content, headers={"Range": "bytes=99999999-"})).status_code == 416
    head = await client.head(content)
    assert (head.headers["content-length"], head.content) == (str(len(whole.content)), b"")

    for variant, kind, size in (("thumbnail", "webp", (64, 64)), ("spritesheet", "jpeg", None)):
        answer = await client.get(content, params={"variant": variant})
        assert answer.headers["content-type"] == f"image/{kind}"
        picture = Image.open(io.BytesIO(answer.content))
        assert picture.format == kind.upper()
        assert size is None or picture.size == size
    assert (await client.get(content, params={"variant": "audio"})).status_code == 400


async def test_plain_json_is_a_job_and_dynamos_json_is_synchronous(client: httpx.AsyncClient) -> None:
    job = await client.post("/v1/videos", json={"prompt": "p", "size": "64x64", "seconds": 1, "model": "demo/wan-tiny"})
    assert (job.status_code, job.json()["status"], job.json()["seconds"]) == (200, "queued", "1")
    done = await client.post("/v1/videos", json=BODY)
    assert (done.status_code, done.json()["status"], done.json()["progress"]) == (200, "completed", 100)
    assert "openai-poll-after-ms" not in done.headers
    assert probe((await client.get(done.json()["data"][0]["url"])).content).frames == 5
    assert (await ended(client, job.json()))["status"] == "completed"


async def test_b64_json_is_the_file_and_a_seed_gives_it_again(client: httpx.AsyncClient) -> None:
    first = (await client.post("/v1/videos", json={**BODY, "response_format": "b64_json"})).json()
    again = (await client.post("/v1/videos", json={**BODY, "response_format": "b64_json"})).json()
    other = await client.post(
        "/v1/videos", json={**BODY, "response_format": "b64_json", "nvext": {**SMALL, "seed": 12}}
    )
    [data] = first["data"]
    assert data["url"] is None
    assert probe(base64.b64decode(data["b64_json"])).frames == 5
    assert first["id"] != again["id"]
    assert data["b64_json"] == again["data"][0]["b64_json"] != other.json()["data"][0]["b64_json"]


async def test_sync_is_the_mp4_itself(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/videos/sync", json=BODY)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    assert probe(answer.content).frames == 5
    assert answer.headers["x-job-seed"] == "11"
    job = (await client.get(f"/v1/videos/{answer.headers['x-job-id']}")).json()
    assert job["status"] == "completed"


async def test_a_stream_ends_with_the_full_object(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/videos", json={**BODY, "stream": True, "response_format": "b64_json"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = events_of(answer.text)
    assert {name for name, _ in events[:-1]} == {"video.progress"}
    progress = [event["progress"] for _, event in events[:-1]]
    assert progress == sorted(progress)
    name, last = events[-1]
    assert (name, last["type"], last["status"]) == ("video.completed", "video.completed", "completed")
    assert probe(base64.b64decode(last["data"][0]["b64_json"])).frames == 5

    follow = await client.get(f"/v1/videos/{last['id']}/events")
    [(name, video)] = events_of(follow.text)
    assert (name, video["id"]) == ("video.completed", last["id"])
    assert video["data"][0]["url"]


async def test_remix_is_the_same_parameters_with_a_new_prompt(client: httpx.AsyncClient) -> None:
    source = await submit(client, user="me")
    answer = await client.post(f"/v1/videos/{source['id']}/remix", json={"prompt": "A tired raccoon"})
    remix = answer.json()
    assert (answer.status_code, remix["prompt"]) == (200, "A tired raccoon")
    assert remix["remixed_from_video_id"] == source["id"] != remix["id"]
    assert (remix["size"], remix["seconds"], remix["nvext"]["seed"]) == ("64x64", "1.25", 11)
    assert (await ended(client, remix))["status"] == "completed"
    assert (await client.post(f"/v1/videos/{UNKNOWN}/remix", json={"prompt": "p"})).status_code == 404
    assert (await client.post(f"/v1/videos/{source['id']}/remix", json={"prompt": ""})).status_code == 400


async def test_a_remix_has_the_limits_of_today(serving: Serving, client: httpx.AsyncClient) -> None:
    source = (await client.post("/v1/videos", json=BODY)).json()
    for limits, param in (
        ({"frames": 2}, "num_frames"),
        ({"fps": 1}, "fps"),
        ({"min_side": 128}, "width"),
        ({"prompt_chars": 3}, "prompt"),
    ):
        with serving(video={"limits": limits}) as running:
            async with running.client() as later:
                answer = await later.post(f"/v1/videos/{source['id']}/remix", json={"prompt": "another"})
        error = answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, param)
        assert "limits." in error["message"]


async def test_one_object_serves_openais_clients_and_dynamos(client: httpx.AsyncClient) -> None:
    openais = {"id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at", "seconds"}
    openais |= {"size", "prompt", "remixed_from_video_id", "error", "status_message"}
    dynamos = {"id", "object", "model", "status", "progress", "created", "data", "error", "inference_time_s"}
    video = (await client.post("/v1/videos", json=BODY)).json()
    assert set(video) == openais | dynamos | {"nvext"}
    assert isinstance(video["seconds"], str)
    assert set(video["data"][0]) == {"url", "b64_json", "output_format", "fps", "thumbnail_url"}
    assert (await client.get(f"/v1/videos/{video['id']}")).json() == video


async def test_seconds_may_be_a_number_or_a_string_and_frames_win(client: httpx.AsyncClient) -> None:
    extension = {"fps": 3, "num_inference_steps": 1}
    small = {"prompt": "p", "size": "64x64", "nvext": extension}
    for seconds in (2, "2"):
        video = (await client.post("/v1/videos", json={**small, "seconds": seconds})).json()
        assert (video["seconds"], video["nvext"]["num_frames"]) == ("2", 6)
    exact = {**small, "seconds": 2, "nvext": {**extension, "num_frames": 4}}
    video = (await client.post("/v1/videos", json=exact)).json()
    assert probe((await client.get(video["data"][0]["url"])).content).frames == video["nvext"]["num_frames"] == 4


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


async def test_deleting_what_waits_or_runs_cancels_it(held: tuple[Held, Running]) -> None:
    replica, running = held
    async with running.client() as client:
        video = await submit(client)
        waiting = asyncio.create_task(client.get(f"/v1/videos/{video['id']}/events"))
        await asyncio.sleep(0.2)
        assert (await client.delete(f"/v1/videos/{video['id']}")).json()["deleted"]
        # the stream had begun: its end is an error event
        name, last = events_of((await asyncio.wait_for(waiting, 10)).text)[-1]
        assert (name, last["error"]["code"]) == ("error", "video_not_found")
        replica.release()
        assert (await client.get(f"/v1/videos/{video['id']}")).status_code == 404
    async with running.client() as client:
        long = {"nvext[num_inference_steps]": "100", "nvext[num_frames]": "33"}
        video = await submit(client, size="256x256", **long)
        async with asyncio.timeout(60):
            while (await client.get(f"/v1/videos/{video['id']}")).json()["status"] == "queued":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await client.delete(f"/v1/videos/{video['id']}")
        assert (await ended(client, await submit(client)))["status"] == "completed"  # the replica is free again
        assert (await client.get(f"/v1/videos/{video['id']}")).status_code == 404


async def test_looking_at_headers_waits_for_nothing(held: tuple[Held, Running]) -> None:
    replica, running = held
    async with running.client() as client:
        video = await submit(client)
        for path in ("", "/events"):
            answer = await client.head(f"/v1/videos/{video['id']}{path}", timeout=5)
            assert (answer.status_code, answer.content) == (200, b"")
        assert (await client.head(f"/v1/videos/{video['id']}/content")).status_code == 404
        replica.release()


# --- many jobs ------------------------------------------------------------------------------------------------------


async def test_lists_are_paged_both_ways(serving: Serving, tmp_path: Any) -> None:
    with serving(media={"root": tmp_path.as_uri()}) as running:
        async with running.client() as client:
            assert (await client.get("/v1/videos")).json() == {
                "object": "list",
                "data": [],
                "first_id": None,
                "last_id": None,
                "has_more": False,
            }
            made = [(await submit(client))["id"] for _ in range(3)]
            newest = (await client.get("/v1/videos", params={"limit": 2})).json()
            assert [video["id"] for video in newest["data"]] == made[:0:-1]
            assert (newest["first_id"], newest["last_id"], newest["has_more"]) == (made[2], made[1], True)
            rest = (await client.get("/v1/videos", params={"limit": 2, "after": newest["last_id"]})).json()
            assert ([video["id"] for video in rest["data"]], rest["has_more"]) == (made[:1], False)
            oldest = (await client.get("/v1/videos", params={"order": "asc"})).json()
            assert [video["id"] for video in oldest["data"]] == made
            for id in made:
                await client.delete(f"/v1/videos/{id}")


async def test_a_page_goes_on_after_a_video_that_was_deleted(held: tuple[Held, Running]) -> None:
    replica, running = held
    async with running.client() as client:
        made = [(await submit(client))["id"] for _ in range(3)]
        await client.delete(f"/v1/videos/{made[1]}")
        after = (await client.get("/v1/videos", params={"after": made[1], "limit": 1})).json()
        assert [video["id"] for video in after["data"]] == made[:1]
        before = (await client.get("/v1/videos", params={"after": made[1], "order": "asc"})).json()
        assert ([video["id"] for video in before["data"]], before["has_more"]) == (made[2:], False)
        for id in (made[0], made[2]):
            await client.delete(f"/v1/videos/{id}")
        replica.release()


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=1e1", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=1&limit=2", "limit"),
        ("order=", "order"),
        ("order=DESC", "order"),
        ("after=", "after"),
        ("order=up", "order"),
        ("after=../../etc", "after"),
    ],
)
async def test_bad_pages_are_refused(client: httpx.AsyncClient, query: str, param: str) -> None:
    answer = await client.get(f"/v1/videos?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_deleting_removes_record_and_files(client: httpx.AsyncClient) -> None:
    video = await ended(client, await submit(client))
    url = video["data"][0]["url"]
    answer = await client.delete(f"/v1/videos/{video['id']}")
    assert answer.json() == {"id": video["id"], "deleted": True, "object": "video.deleted"}
    for path in (url, f"/v1/videos/{video['id']}", f"/v1/videos/{video['id']}/content"):
        assert (await client.get(path)).status_code == 404
    assert (await client.delete(f"/v1/videos/{video['id']}")).status_code == 404


@pytest.mark.parametrize("id", [UNKNOWN, "video_1", "..%2F..%2Fetc%2Fpasswd", "%00", "video_" + "g" * 32, "x" * 5000])
async def test_no_such_video(client: httpx.AsyncClient, id: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/content"), ("POST", "/cancel"), ("GET", "/events")):
        answer = await client.request(method, f"/v1/videos/{id}{path}")
        assert answer.status_code == 404, (method, path)
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_method_that_a_path_has_not_names_those_it_has(client: httpx.AsyncClient) -> None:
    answer = await client.put("/v1/videos", json={})
    assert answer.status_code == 405
    assert {each.strip() for each in answer.headers["allow"].split(",")} == {"GET", "HEAD", "POST"}
    answer = await client.get("/v1/videos/sync")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


# --- waiting --------------------------------------------------------------------------------------------------------


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


async def test_what_was_cancelled_or_deleted_makes_room_in_the_queue(held: tuple[Held, Running]) -> None:
    replica, running = held
    async with running.client() as client:
        first, second, third = [(await submit(client))["id"] for _ in range(3)]
        assert (await client.post("/v1/videos", json=BODY)).status_code == 429
        assert (await client.post(f"/v1/videos/{first}/cancel")).status_code == 200
        assert (await client.delete(f"/v1/videos/{second}")).status_code == 200
        more = [(await submit(client))["id"] for _ in range(2)]  # though the replica is as busy as before
        assert (await client.post("/v1/videos", json=BODY)).status_code == 429
        replica.release()
        for id in (third, *more):
            video = await ended(client, {"id": id, "status": "queued", "progress": 0})
            assert video["status"] == "completed"


async def test_a_queued_job_is_cancelled_at_once(held: tuple[Held, Running]) -> None:
    replica, running = held
    async with running.client() as client:
        video = await submit(client)
        waiting = asyncio.create_task(client.post("/v1/videos/sync", json=BODY))
        answer = await client.post(f"/v1/videos/{video['id']}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "failed")
        assert answer.json()["error"]["code"] == "cancelled"
        async with asyncio.timeout(10):
            while (newest := await newest_id(client)) == video["id"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await client.post(f"/v1/videos/{newest}/cancel")
        # a synchronous caller is told by a true status, though the replica is still busy
        answer = await asyncio.wait_for(waiting, 10)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "cancelled")
        assert newest in answer.json()["error"]["message"]
        replica.release()
        assert (await client.get(f"/v1/videos/{video['id']}/content")).status_code == 404


async def test_a_running_job_is_cancelled_and_a_finished_one_stays(client: httpx.AsyncClient) -> None:
    video = await submit(client, size="256x256", **{"nvext[num_inference_steps]": "100", "nvext[num_frames]": "33"})
    async with asyncio.timeout(60):
        while (await client.get(f"/v1/videos/{video['id']}")).json()["status"] == "queued":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    cancelled = (await client.post(f"/v1/videos/{video['id']}/cancel")).json()
    assert (cancelled["status"], cancelled["error"]["code"]) == ("failed", "cancelled")
    # the replica is free again long before its 100 steps would have ended
    done = await ended(client, await submit(client))
    again = (await client.post(f"/v1/videos/{done['id']}/cancel")).json()
    assert (again["status"], again["error"]) == ("completed", None)


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


# --- input images ---------------------------------------------------------------------------------------------------


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(buffer, kind)
    return buffer.getvalue()


async def test_image_to_video_by_upload_url_and_object(client: httpx.AsyncClient) -> None:
    data_url = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
    form: dict[str, Any] = {name: (None, value) for name, value in FORM.items()}
    uploaded = await client.post("/v1/videos", files={**form, "input_reference": ("a.png", picture(), "image/png")})
    assert uploaded.status_code == 200, uploaded.text
    by_url = await client.post("/v1/videos", json={**BODY, "input_reference": data_url})
    by_object = await client.post("/v1/videos", json={**BODY, "input_reference": {"image_url": data_url}})
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
    first, last = picture(), picture(size=(48, 80))
    form: dict[str, Any] = {name: (None, value) for name, value in FORM.items()}
    files = {"input_reference": ("a.png", first, "image/png"), "last_frame": ("b.png", last, "image/png")}
    urls = [f"data:image/png;base64,{base64.b64encode(data).decode()}" for data in (first, last)]
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
    url = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
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
            image = await client.post("/v1/videos", files={**form, "input_reference": ("a.png", picture())})
            assert (image.status_code, image.json()["error"]["param"]) == (400, "input_reference")
            expert = await client.post("/v1/videos", json={**BODY, "nvext": {**SMALL, "boundary_ratio": 0.9}})
            assert (expert.status_code, expert.json()["error"]["param"]) == (400, "nvext.boundary_ratio")


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"prompt": ""}, 400, "prompt"),
        ({"prompt": "x" * 32001}, 400, "prompt"),
        ({"prompt": 3}, 400, "prompt"),
        ({"model": "sora-2"}, 404, "model"),
        ({"size": "axb"}, 400, "size"),
        ({"size": "65x64"}, 400, "size"),
        ({"size": "1024x1024"}, 400, "size"),
        ({"seconds": 0}, 400, "seconds"),
        ({"seconds": "four"}, 400, "seconds"),
        ({"output_format": "webm"}, 400, "output_format"),
        ({"response_format": "path"}, 400, "response_format"),
        ({"nvext": {"steps": 3}}, 400, "nvext.steps"),
        ({"nvext": {"num_inference_steps": -1}}, 400, "nvext.num_inference_steps"),
        ({"nvext": {"num_frames": 34}}, 400, "nvext.num_frames"),
        ({"nvext": {"fps": "8"}}, 400, "nvext.fps"),
        ({"nvext": {"seed": -1}}, 400, "nvext.seed"),
    ],
)
async def test_refusals_name_the_field(
    client: httpx.AsyncClient, change: dict[str, Any], status: int, param: str
) -> None:
    for path in ("/v1/videos", "/v1/videos/sync"):
        answer = await client.post(path, json={**BODY, **change})
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), answer.text


async def test_unknown_fields_are_ignored(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/videos", json={**BODY, "quality": "high", "extra_args": {}})
    assert answer.json()["status"] == "completed"
