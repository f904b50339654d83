"""The ingress over real Serve handles: what a replica's errors, death, full queue and a caller's leaving become.

The replica here is a small one that does what the prompt says, so that each case takes no model and no luck.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve

from serve_app.errors import GenerationFailed, InvalidRequest
from serve_app.handles import ModelHandle
from serve_app.ingress.asgi import create_http_app
from serve_app.ingress.readiness import ServeReadiness
from serve_app.ingress.services import ServedModel, Services
from serve_app.jobs.store import JobStore
from serve_app.model_settings import TextSettings
from serve_app.settings import Settings, resolve
from serve_app.storage import open_store
from serve_app.tasks import ModelCard, TextBlock, TextEnd, TextEvent, TextResult, TextTask

END = TextEnd(finish_reason="stop", prompt_tokens=1, completion_tokens=1, algorithm="none")


class Obedient:
    """Does what the prompt says, and notes in `notes` when it is cancelled."""

    def __init__(self, notes: str) -> None:
        self._notes = Path(notes)

    async def describe(self) -> ModelCard:
        return ModelCard(model="m", kind="text", engine="none")

    async def generate(self, task: TextTask) -> TextResult:
        async for event in self.stream(task):
            if isinstance(event, TextEnd):
                return TextResult(text="done", end=event)
        raise AssertionError

    async def stream(self, task: TextTask) -> AsyncGenerator[TextEvent, None]:
        what, _, name = task.prompt.partition(" ")
        if what == "refuse":
            raise InvalidRequest("not this one", param="prompt")
        yield TextBlock(block=0, text="first", tokens=1)
        if what == "fail":
            raise GenerationFailed("the engine broke")
        if what == "bug":
            raise ValueError("secret of the replica")
        if what == "die":
            os._exit(1)
        if what == "wait":
            await self._wait(name)
        yield END

    async def _wait(self, name: str) -> None:
        (self._notes / f"{name}.began").touch()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            (self._notes / f"{name}.cancelled").touch()
            raise


class Front:
    """Our HTTP application over a handle of the replica, wired as the real ingress is."""

    def __init__(self, settings: Settings, text: Any) -> None:
        store = open_store(settings)
        model = settings.served["text"]
        assert isinstance(model, TextSettings)
        self._services = Services(
            settings=settings,
            store=store,
            jobs=JobStore(store, settings),
            models={"m": ServedModel("text", model, ModelHandle(text))},
            readiness=ServeReadiness({"text": text}, {"text": 1}),
        )

    def __serve_build_asgi_app__(self) -> Any:
        return create_http_app(self._services, behind_serve=True)


SMALL = {"num_cpus": 0.1}


@contextmanager
def served_text(replica: Any, name: str, home: Path) -> Generator[None]:
    """Our ingress at /`name`, over a bound deployment in place of the text model."""
    written = {"models": {"text": {"model": "m"}, "image": None, "video": None}, "home": str(home)}
    settings = resolve(Settings.model_validate(written), "demo")
    deployment: Any = serve.deployment
    front = deployment(serve.ingress()(Front)).options(max_ongoing_requests=100, ray_actor_options=SMALL)
    serve.run(front.bind(settings, replica), name=name, route_prefix=f"/{name}")
    yield
    serve.delete(name)


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notes")


@pytest.fixture(scope="module")
def url(cluster: str, notes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    deployment: Any = serve.deployment
    replica = deployment(Obedient).options(max_ongoing_requests=2, max_queued_requests=3, ray_actor_options=SMALL)
    with served_text(replica.bind(str(notes)), "handles", tmp_path_factory.mktemp("home")):
        yield f"{cluster}/handles"


async def ask(url: str, prompt: str, **fields: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(f"{url}/v1/completions", json={"prompt": prompt, **fields})


async def appears(path: Path) -> None:
    async with asyncio.timeout(120):
        while not path.exists():  # noqa: ASYNC110, ASYNC240 another process makes it
            await asyncio.sleep(0.02)


async def test_a_result_comes_through_with_one_request_id(url: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{url}/v1/completions", json={"prompt": "go"}, headers={"x-request-id": "mine"})
    assert answer.json()["choices"][0]["text"] == "done"
    assert answer.headers.get_list("x-request-id") == ["mine"]
    drawn = await ask(url, "go")
    assert len(drawn.headers.get_list("x-request-id")) == 1
    streamed = await ask(url, "go", stream=True)
    assert '"text":"first"' in streamed.text
    assert streamed.text.endswith("data: [DONE]\n\n")


async def test_our_errors_cross_the_handle_as_they_were_raised(url: str) -> None:
    for stream in (False, True):
        answer = await ask(url, "refuse", stream=stream)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")
        assert answer.json()["error"]["message"] == "not this one"
    failed = await ask(url, "fail")
    assert (failed.status_code, failed.json()["error"]["code"]) == (500, "generation_failed")
    assert failed.json()["error"]["message"] == "the engine broke"
    late = await ask(url, "fail", stream=True)
    assert 'event: error\ndata: {"error":{"message":"the engine broke"' in late.text


async def test_a_mistake_in_a_replica_tells_nothing(url: str) -> None:
    for stream in (False, True):
        answer = await ask(url, "bug", stream=stream)
        assert "secret" not in answer.text
        assert "internal_error" in answer.text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_leaves_cancels_the_call(url: str, notes: Path, stream: bool) -> None:
    name = f"left-{stream}"
    asking = asyncio.create_task(ask(url, f"wait {name}", stream=stream))
    await appears(notes / f"{name}.began")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await appears(notes / f"{name}.cancelled")


async def test_all_choices_are_cancelled_with_their_caller(url: str, notes: Path) -> None:
    asking = asyncio.create_task(ask(url, "wait several", n=2))
    await appears(notes / "several.began")
    await asyncio.sleep(0.5)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await appears(notes / "several.cancelled")
    assert (await ask(url, "go")).status_code == 200


async def test_a_full_queue_is_429(url: str, notes: Path) -> None:
    waiting = [asyncio.create_task(ask(url, f"wait full-{i}")) for i in range(2)]
    for i in range(2):
        await appears(notes / f"full-{i}.began")
    # none of these is answered but the one that finds no place any more
    waiting += [asyncio.create_task(ask(url, "wait beyond")) for _ in range(6)]
    [refused, *_], _ = await asyncio.wait(waiting, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    answer = refused.result()
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_replica_that_dies_is_told_and_replaced(url: str) -> None:
    answer = await ask(url, "die")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "generation_failed")
    assert "replica" in answer.json()["error"]["message"]
    deadline = time.monotonic() + 240
    while (await ask(url, "go")).status_code != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


async def test_readiness_is_what_serve_says(url: str) -> None:
    async with httpx.AsyncClient() as client:
        deadline = time.monotonic() + 240
        while (answer := await client.get(f"{url}/ready")).status_code != 200:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
    told = {"model": "m", "state": "ready", "replicas": 1, "waiting": 0, "expected_wait_s": 0.0}
    assert answer.json()["models"] == {"text": told}


async def test_a_slow_body_does_not_take_the_ingress(url: str) -> None:
    parts = httpx.URL(url)
    with socket.create_connection((parts.host, parts.port or 80)) as sock:
        head = f"POST {parts.path}/v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        sock.sendall(head.encode() + b'Content-Length: 1000\r\n\r\n{"a"')
        assert (await ask(url, "go")).status_code == 200
