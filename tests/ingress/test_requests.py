"""What holds for every endpoint: ids, times, methods, bodies, errors."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from serve_app.ingress.asgi import create_http_app
from serve_app.telemetry.logs import JSONFormatter
from tests.ingress.conftest import Running, Serving, with_client

CHAT = "/v1/chat/completions"
IMAGES = "/v1/images/generations"
JSON = {"content-type": "application/json"}
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error object, after checking that all that an error promises is there."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert int(answer.headers["openai-processing-ms"]) >= 0
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert "Traceback" not in answer.text
    return error


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


@pytest.mark.parametrize(
    ("content_type", "path"),
    [
        ("text/plain", CHAT),
        ("", CHAT),
        ("application/x-www-form-urlencoded", CHAT),
        ("multipart/form-data; boundary=x", CHAT),
        ("application/jsonp", IMAGES),
        ("application/xml", IMAGES),
    ],
)
async def test_other_content_types_are_415(client: httpx.AsyncClient, content_type: str, path: str) -> None:
    answer = await client.post(path, content=json.dumps(HELLO), headers={"content-type": content_type})
    assert "application/json" in error_of(answer, 415)["message"]


async def test_a_content_type_may_have_parameters(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    answer = await client.post(CHAT, content=json.dumps(HELLO), headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"a": NaN}',
        b'{"model": "a", "model": "b"}',
        b'{"prompt": "\\udfff"}',
        b"\xff\xfe{}",
        b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b"{" + b",".join(b'"f%d": 1' % i for i in range(10_000)) + b"}",
    ],
)
async def test_hostile_json_is_400_and_the_server_goes_on(client: httpx.AsyncClient, body: bytes) -> None:
    for path in (CHAT, "/v1/completions", IMAGES):
        assert error_of(await client.post(path, content=body, headers=JSON), 400)["type"] == "invalid_request_error"
    assert (await client.get("/health")).status_code == 200


async def test_a_large_body_is_413_however_it_is_sent(client: httpx.AsyncClient) -> None:
    body = json.dumps(HELLO | {"user": "x" * 5 * 1024 * 1024}).encode()
    error = error_of(await client.post(CHAT, content=body, headers=JSON), 413)
    assert "limits.body_bytes" in error["message"]

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    error_of(await client.post(CHAT, content=chunks(), headers=JSON), 413)


async def test_an_endless_body_ends(running: Running) -> None:
    """A client that never stops sending is cut off, and others are served meanwhile."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 65536

    async with running.client() as client:
        with pytest.raises(httpx.TransportError):
            raise httpx.ReadError((await client.post(CHAT, content=endless(), headers=JSON)).text)
        assert (await client.get("/health")).status_code == 200


async def test_no_more_than_twice_the_limit_is_read(running: Running) -> None:
    """limits.body_bytes is 4 MiB here. What was read is held no longer than until it is too much."""
    chunk, read = b" " * 65536, 0
    sent: list[Any] = []
    held: set[int] = set()

    async def receive() -> Any:
        nonlocal read
        read += len(chunk)
        if read > 5 * 1024 * 1024:
            held.add(scope["state"]["bodies"].bytes)
        if read > 2**25:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": CHAT, "headers": headers, "query_string": b""}
    await create_http_app(running.services)(scope, receive, send)
    assert (sent[0]["status"], read) == (413, 8 * 1024 * 1024 + len(chunk))
    assert (b"connection", b"close") in sent[0]["headers"]
    assert held == {0}


async def test_a_slow_body_is_400_and_holds_nobody_up(running: Running) -> None:
    """limits.body_timeout_s is 2 s here; the body of this client never ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(running.url).port)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    writer.write(head.encode() + b'{"a"')
    await writer.drain()
    async with running.client() as client:
        assert (await client.post(CHAT, json=HELLO)).status_code == 200
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer.lower()
    assert b"limits.body_timeout_s" in await reader.read()  # to the end: what comes late is no next request
    writer.close()


async def test_a_client_that_leaves_in_the_middle_of_its_body_harms_no_one(running: Running) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(running.url).port)
    writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode())
    writer.write(b'Content-Length: 1000\r\n\r\n{"a"')
    await writer.drain()
    writer.close()
    async with running.client() as client:
        assert (await client.get("/health")).status_code == 200


class LostRequest(Exception):
    """What Serve's receive may raise: Ray's own, once the proxy has forgotten the request."""


@pytest.mark.parametrize("pieces", [0, 1])
async def test_a_client_that_serve_has_lost_is_no_error_of_ours(
    running: Running, caplog: pytest.LogCaptureFixture, pieces: int
) -> None:
    app = create_http_app(running.services, behind_serve=True)
    left = [{"type": "http.request", "body": b'{"a"', "more_body": True}] * pieces

    async def receive() -> Any:
        if left:
            return left.pop()
        raise LostRequest

    async def send(message: Any) -> None:
        raise AssertionError(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers, "query_string": b"", "scheme": "http"}
    with caplog.at_level(logging.INFO):
        await app(scope, receive, send)
    assert [record.getMessage().split(" 0.")[0] for record in caplog.records] == [f"POST {CHAT} 499"]


async def test_bodies_share_a_budget(serving: Serving) -> None:
    """While one is held the other has no room, and when that is gone there is room again."""
    with serving(limits={"bodies_bytes": 150_000, "body_timeout_s": 30}) as running:
        large = json.dumps(HELLO | {"metadata": "x" * 99_000}).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(running.url).port)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(large)}\r\n\r\n".encode() + large[:-1])
        await writer.drain()
        async with running.client() as client:
            async with asyncio.timeout(20):
                while (answer := await client.post(CHAT, content=large, headers=JSON)).status_code == 200:
                    pass  # until what was written has been read
            error = error_of(answer, 429)
            assert (error["code"], answer.headers["retry-after"]) == ("rate_limit_exceeded", "1")
            assert "limits.bodies_bytes" in error["message"]
            assert (await client.post(CHAT, json=HELLO)).status_code == 200
            writer.close()
            async with asyncio.timeout(20):
                while (await client.post(CHAT, content=large, headers=JSON)).status_code != 200:
                    pass


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


async def test_a_full_queue_is_429_with_a_time_to_come_back(serving: Serving) -> None:
    with serving(text={"max_queued": 1, "max_running_requests": 1}) as running:
        count = [{"role": "user", "content": "Count from 10 to 30."}]
        body = {"messages": count, "max_tokens": 256}
        async with running.client() as client:
            answers = await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(6)))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [200, 200, 429, 429, 429, 429]
        for answer in answers:
            if answer.status_code == 429:
                assert error_of(answer, 429)["code"] == "queue_full"
                assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_request_took_is_known_to_the_next(serving: Serving, stream: bool) -> None:
    with serving() as running:
        async with running.client() as client:
            for path, body in ((CHAT, HELLO), (IMAGES, {"prompt": "a", "nvext": {"num_inference_steps": 1}})):
                assert (await client.post(path, json=body | {"stream": stream})).status_code == 200
        measured = {model.name: model.load.costs.mean for model in running.services.models.values()}
        assert measured["text"]
        assert measured["image"]


async def test_a_mistake_of_ours_is_500_without_internals(serving: Serving) -> None:
    class Broken:
        async def describe(self) -> Any:
            raise NotImplementedError

        async def generate(self, task: Any) -> Any:
            raise RuntimeError(f"secret of {task.id}")

        def stream(self, task: Any) -> Any:
            raise RuntimeError("secret")

    def broken(services: Any) -> Any:
        return with_client(services, "text", Broken())

    with serving(broken) as running:
        async with running.client() as client:
            answer = await client.post(CHAT, json=HELLO, headers={"x-request-id": "find-me"})
            error = error_of(answer, 500)
            assert "secret" not in answer.text
            assert "find-me" in error["message"]
            error_of(await client.post(CHAT, json=HELLO | {"stream": True}), 500)


async def test_a_log_line_of_a_request_names_its_trace(serving: Serving) -> None:
    lines: list[dict[str, Any]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(self.format(record)))

    kept, logger = Kept(), logging.getLogger("serve_app")
    kept.setFormatter(JSONFormatter())
    logger.addHandler(kept)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    try:
        with serving(lambda own: with_client(own, "text", object())) as running:
            async with running.client() as client:
                headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01", "x-request-id": "find-me"}
                assert (await client.post(CHAT, json=HELLO, headers=headers)).status_code == 500
    finally:
        logger.removeHandler(kept)
    assert (trace_id, "find-me") in [(line.get("trace_id"), line.get("request_id")) for line in lines]
