"""A video from its request to its files, over a real loopback server, the real pipeline and a real store."""

from __future__ import annotations

import base64
import io
import time
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.ingress.conftest import Serving
from tests.ingress.videos import BODY, FORM, SMALL, UNKNOWN, ended, events_of, submit
from tests.probing import probe

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


async def test_unknown_fields_are_ignored(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/videos", json={**BODY, "quality": "high", "extra_args": {}})
    assert answer.json()["status"] == "completed"


# --- remixes --------------------------------------------------------------------------------------------------------


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
