"""That Serve's own proxy, in front of the application, changes nothing of what api.md says for every endpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.serve.conftest import Served

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
IMAGE = {"prompt": "a", "size": "64x64", "nvext": {"num_inference_steps": 1}}


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.base_url, timeout=60) as one:
        yield one


def test_errors_have_their_shape_status_and_headers(client: httpx.Client) -> None:
    asked: list[tuple[int, str, str, dict[str, Any]]] = [
        (400, "POST", CHAT, {"json": HELLO | {"n": 10**350}}),
        (400, "POST", CHAT, {"content": b"{" * 100_000, "headers": {"content-type": "application/json"}}),
        (404, "GET", "/v1/nothing", {}),
        (404, "GET", "/nothing", {}),
        (404, "GET", "/health%0a", {}),
        (404, "POST", CHAT, {"json": HELLO | {"model": "gpt-4o"}}),
        (404, "GET", "/v1/media/..%2f..%2fetc/passwd", {}),
        (404, "GET", "/v1/videos/..%2f..%2fetc", {}),
        (405, "PUT", CHAT, {"json": HELLO}),
        (405, "OPTIONS", "/v1/videos", {}),
        (413, "POST", CHAT, {"content": b" " * 33 * 1024 * 1024, "headers": {"content-type": "application/json"}}),
        (415, "POST", CHAT, {"content": b"hi"}),
    ]
    for status, method, path, options in asked:
        answer = client.request(method, path, **options)
        assert answer.status_code == status, (method, path, answer.text[:500])
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert len(answer.headers.get_list("x-request-id")) == 1
        assert int(answer.headers["openai-processing-ms"]) >= 0
        assert status != 405 or "POST" in answer.headers["allow"]


def test_a_request_keeps_its_id(client: httpx.Client) -> None:
    for path in ("/health", "/v1/nothing"):
        answer = client.get(path, headers={"x-request-id": "find-me"})
        assert answer.headers.get_list("x-request-id") == ["find-me"]


def test_media_ranges_and_heads(client: httpx.Client) -> None:
    url = client.post("/v1/images/generations", json=IMAGE).json()["data"][0]["url"]
    whole = client.get(url)
    assert whole.headers["content-type"] == "image/png"
    part = client.get(url, headers={"range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"PNG")
    head = client.head(url)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole.content)))
    assert client.get(url, headers={"if-none-match": whole.headers["etag"]}).status_code == 304
    assert client.get(url, headers={"range": "bytes=99999999-"}).status_code == 416


def test_a_stream_is_events_as_they_come(client: httpx.Client) -> None:
    count = [{"role": "user", "content": "Count from 10 to 30."}]
    body = {"messages": count, "max_tokens": 96, "stream": True}
    with client.stream("POST", CHAT, json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    assert sum(bool(json.loads(line)["choices"][0]["delta"].get("content")) for line in lines[:-1]) >= 3


def test_the_page_and_its_description(client: httpx.Client) -> None:
    assert client.get("/docs").headers["content-type"].startswith("text/html")
    described = client.get("/openapi.json").json()
    assert described["components"]["schemas"]["ModelId"]["enum"] == [
        model["id"] for model in client.get("/v1/models").json()["data"]
    ]
    for path, methods in described["paths"].items():
        for example in [one["requestBody"] for one in methods.values() if "requestBody" in one]:
            if "{" not in path and "videos" not in path:
                answer = client.post(path, json=example["content"]["application/json"]["example"])
                assert answer.status_code == 200, "an example works as it stands"


def test_what_is_cancelled_or_deleted_stops_nothing_else(client: httpx.Client) -> None:
    """Jobs that wait in Serve's queue, and one that runs, are taken back; the next is made all the same."""

    def submit(steps: int) -> str:
        nvext = {"num_frames": 17, "num_inference_steps": steps}
        body = {"prompt": "p", "size": "128x128", "nvext": nvext}
        return client.post("/v1/videos", json=body, headers={"Prefer": "respond-async"}).json()["id"]

    running, waiting, deleted, last = submit(100), submit(100), submit(100), submit(1)
    cancelled = client.post(f"/v1/videos/{waiting}/cancel").json()
    assert (cancelled["status"], cancelled["error"]["code"]) == ("failed", "cancelled")
    assert client.delete(f"/v1/videos/{deleted}").json()["deleted"]
    assert client.delete(f"/v1/videos/{running}").json()["deleted"]
    events = client.get(f"/v1/videos/{last}/events").text.strip().split("\n\n")
    assert events[-1].startswith("event: video.completed")
    assert client.get(f"/v1/videos/{waiting}").json()["status"] == "failed"
    assert client.get(f"/v1/videos/{running}").status_code == 404


def test_health_names_the_instance(client: httpx.Client) -> None:
    """So that whoever started a server knows whether it is that one that answers."""
    told = [client.get("/health").json() for _ in range(3)]
    assert told[0] == told[1] == told[2]
    assert told[0]["status"] == "ok"
    assert re.fullmatch("[0-9a-f]{16}", told[0]["instance"])
