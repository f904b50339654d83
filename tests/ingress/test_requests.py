"""What holds for every endpoint: ids, times, paths, methods, queries, and fields that are wrong."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.ingress.conftest import Running
from tests.ingress.endpoints import CHAT, HELLO, error_of
from tests.ingress.images import IMAGES


async def test_a_valid_request_id_is_kept_and_another_is_replaced(client: httpx.AsyncClient) -> None:
    kept = await client.get("/health", headers={"x-request-id": "My-id_1.2"})
    assert kept.headers["x-request-id"] == "My-id_1.2"
    assert int(kept.headers["openai-processing-ms"]) >= 0
    for bad in (b"a b", b"x" * 129, b"<script>", b"\xe9", b"a;b", b""):
        answer = await client.get("/health", headers=[(b"x-request-id", bad)])
        assert answer.headers["x-request-id"].startswith("req_")
    one, other = await client.get("/health"), await client.get("/health")
    assert one.headers["x-request-id"] != other.headers["x-request-id"]


async def test_every_kind_of_answer_has_its_id_and_its_time(client: httpx.AsyncClient) -> None:
    url = (await client.post(IMAGES, json={"prompt": "a", "size": "64x64"})).json()["data"][0]["url"]
    etag = (await client.head(url)).headers["etag"]
    asked: list[tuple[int, str, str, dict[str, Any]]] = [
        (200, "GET", "/v1/models", {}),
        (200, "GET", "/openapi.json", {}),
        (200, "GET", "/docs", {}),
        (200, "GET", "/metrics", {}),
        (200, "POST", CHAT, {"json": HELLO}),
        (200, "POST", CHAT, {"json": HELLO | {"stream": True}}),
        (200, "GET", url, {}),
        (200, "HEAD", url, {}),
        (206, "GET", url, {"headers": {"range": "bytes=0-1"}}),
        (304, "GET", url, {"headers": {"if-none-match": etag}}),
        (416, "GET", url, {"headers": {"range": "bytes=99999999-"}}),
        (400, "POST", CHAT, {"json": {}}),
        (404, "GET", "/v1/nothing", {}),
        (405, "PUT", CHAT, {"json": {}}),
        (413, "POST", CHAT, {"json": {"user": "x" * 5 * 1024 * 1024}}),
        (415, "POST", CHAT, {"content": "hi"}),
    ]
    for status, method, path, options in asked:
        answer = await client.request(method, path, **options)
        assert answer.status_code == status, (method, path)
        assert answer.headers.get_list("x-request-id") == [answer.headers["x-request-id"]]
        assert int(answer.headers["openai-processing-ms"]) >= 0


async def test_unknown_paths_are_404(client: httpx.AsyncClient) -> None:
    for path in ("/page", "/v1", "/v1/chat", "/v1/models/", "/v2/models", "/%2e%2e/etc/passwd"):
        error = error_of(await client.get(path), 404)
        assert error["type"] == "invalid_request_error", path


async def test_other_methods_are_405_and_the_allowed_ones_are_told(client: httpx.AsyncClient) -> None:
    for path, allowed in ((CHAT, "POST"), (IMAGES, "POST"), ("/v1/models", "GET"), ("/health", "GET")):
        answer = await client.delete(path)
        error = error_of(answer, 405)
        assert allowed in answer.headers["allow"]
        assert allowed in error["message"]
    assert error_of(await client.get(CHAT), 405)["code"] == "method_not_allowed"


async def test_a_query_takes_no_time(client: httpx.AsyncClient) -> None:
    error = error_of(await client.get("/v1/videos?" + "&".join(f"a{i}=1" for i in range(8000))), 400)
    assert "more than 64 fields" in error["message"]
    twice = error_of(await client.get("/v1/videos?limit=1&" + "&".join(f"a{i}" for i in range(50)) + "&limit=2"), 400)
    assert twice["param"] == "limit"


OF_KIND = {
    "text": ("demo/llada2-tiny", "writes text: POST /v1/chat/completions"),
    "image": ("demo/flux-tiny", "makes images: POST /v1/images/generations"),
    "video": ("demo/wan-tiny", "makes videos: POST /v1/videos"),
}


@pytest.mark.parametrize(
    ("kind", "path", "body"),
    [
        ("text", CHAT, HELLO),
        ("text", "/v1/completions", {"prompt": "hi", "max_tokens": 1}),
        ("image", IMAGES, {"prompt": "a"}),
        ("image", "/v1/images/edits", {"prompt": "a", "image": "https://x/a.png"}),
        ("video", "/v1/videos", {"prompt": "a"}),
        ("video", "/v1/videos/sync", {"prompt": "a"}),
    ],
)
async def test_every_route_tells_where_a_model_of_another_kind_belongs(
    client: httpx.AsyncClient, kind: str, path: str, body: dict[str, Any]
) -> None:
    for model, told in (of_another for name, of_another in OF_KIND.items() if name != kind):
        error = error_of(await client.post(path, json={**body, "model": model}), 400)
        assert (error["code"], error["param"]) == ("invalid_value", "model")
        assert error["message"].startswith(f"'{model}' {told}")


async def test_header_injection_changes_nothing(client: httpx.AsyncClient) -> None:
    model = "x\r\nSet-Cookie: a=b"
    answer = await client.post(CHAT, json=HELLO | {"model": model})
    error_of(answer, 404)
    assert "set-cookie" not in answer.headers
    assert "set-cookie" not in (await client.get("/v1/models/x%0d%0aSet-Cookie:%20a=b")).headers


async def test_twenty_kinds_of_bad_input(client: httpx.AsyncClient, running: Running) -> None:
    """Each is 4xx in OpenAI's shape and names its field, and the server goes on."""
    model = "demo/flux-tiny"
    bad: list[tuple[str, dict[str, Any], int, str]] = [
        (IMAGES, {"prompt": 5}, 400, "prompt"),
        (IMAGES, {"prompt": ""}, 400, "prompt"),
        (IMAGES, {}, 400, "prompt"),
        (IMAGES, {"prompt": "x" * 32001}, 400, "prompt"),
        (IMAGES, {"prompt": "a", "size": "axb"}, 400, "size"),
        (IMAGES, {"prompt": "a", "size": "1x1"}, 400, "size"),
        (IMAGES, {"prompt": "a", "size": "9999x9999"}, 400, "size"),
        (IMAGES, {"prompt": "a", "size": 512}, 400, "size"),
        (IMAGES, {"prompt": "a", "n": 0}, 400, "n"),
        (IMAGES, {"prompt": "a", "n": 5}, 400, "n"),
        (IMAGES, {"prompt": "a", "n": "1"}, 400, "n"),
        (IMAGES, {"prompt": "a", "model": "dall-e-3"}, 404, "model"),
        (
            IMAGES,
            {"prompt": "a", "model": model, "nvext": {"num_inference_steps": -1}},
            400,
            "nvext.num_inference_steps",
        ),
        (IMAGES, {"prompt": "a", "nvext": {"num_inference_steps": 21}}, 400, "nvext.num_inference_steps"),
        (IMAGES, {"prompt": "a", "nvext": {"stepz": 4}}, 400, "nvext.stepz"),
        (IMAGES, {"prompt": "a", "nvext": 4}, 400, "nvext"),
        (IMAGES, {"prompt": "a", "nvext": {"seed": 1.5}}, 400, "nvext.seed"),
        (IMAGES, {"prompt": "a", "response_format": "png"}, 400, "response_format"),
        (IMAGES, {"prompt": "a", "output_format": "bmp"}, 400, "output_format"),
        (IMAGES, {"prompt": "a", "partial_images": -1}, 400, "partial_images"),
        (CHAT, {"messages": []}, 400, "messages"),
        (CHAT, HELLO | {"model": model}, 400, "model"),
        (CHAT, HELLO | {"temperature": 3}, 400, "temperature"),
        (CHAT, HELLO | {"max_tokens": 100_000}, 400, "max_tokens"),
        (CHAT, HELLO | {"tool_choice": "required"}, 400, "tool_choice"),
        ("/v1/completions", {"prompt": "a", "echo": True}, 400, "echo"),
        ("/v1/images/edits", {"prompt": "a"}, 400, "image"),
    ]
    for path, body, status, param in bad:
        assert error_of(await client.post(path, json=body), status)["param"] == param, body
    assert (await client.post(CHAT, json=HELLO)).status_code == 200
