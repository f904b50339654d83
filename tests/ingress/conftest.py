"""The HTTP application on a real loopback server, over the real deployments in the same process; no Ray.

One thread with an event loop of its own holds the engines for the whole session; `serving` puts further applications
with other settings before the same engines.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import uvicorn

from serve_app.deployments.image import ImageDeployment
from serve_app.deployments.text import TextDeployment
from serve_app.deployments.video import VideoDeployment
from serve_app.ingress.asgi import create_http_app
from serve_app.ingress.services import AnyServed, ModelClient, Services
from serve_app.jobs.store import JobStore
from serve_app.settings import Settings, resolve
from serve_app.storage import open_store
from serve_app.tasks import ModelCard

T = TypeVar("T")

KINDS = ("text", "image", "video")
BASE: dict[str, Any] = {
    "instance": "tests",
    "text": {"limits": {"n": 4, "max_tokens": 256, "prompt_chars": 2000}, "defaults": {"max_tokens": 32}},
    "image": {"limits": {"n": 4, "steps": 20, "max_side": 256}, "defaults": {"width": 64, "height": 64}},
    "video": {"limits": {"frames": 33, "max_side": 256}, "defaults": {"width": 64, "height": 64, "num_frames": 5}},
    "limits": {"body_bytes": 4 * 1024 * 1024, "image_bytes": 1024 * 1024, "body_timeout_s": 2.0},
}
"""Small limits, so that going beyond them is quick."""


@dataclass(frozen=True)
class Running:
    """An application that answers at `url`."""

    url: str
    services: Services

    def client(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=60, **options)


class Loop:
    """A thread with an event loop that lives as long as the session."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="server")
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.submit(work).result(timeout=120)

    def close(self) -> None:
        async def cancel_what_is_left() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.loop.shutdown_asyncgens()
            await self.loop.shutdown_default_executor()

        self.run(cancel_what_is_left())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        both[key] = merged(both[key], value) if isinstance(value, dict) and key in both else value
    return both


def free_socket() -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is named, or each answer waits 40 ms for an ACK
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


@pytest.fixture(scope="session")
def server_loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def media_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


Configure = Callable[..., Settings]


@pytest.fixture(scope="session")
def configure(demo_home: Path, media_root: Path) -> Configure:
    """`configure(text={"limits": {"n": 1}}, video=None, ...)`: the demo profile with small limits, and what is given
    laid over it; models of other names go under `models`."""

    def make(**changes: Any) -> Settings:
        media = {"root": media_root.as_uri()}
        written = merged({"home": str(demo_home), "media": media, "models": {}, **BASE}, changes)
        written["models"] |= {kind: written.pop(kind) for kind in KINDS}
        return resolve(Settings.model_validate(written), "demo")

    return make


def serve_all(settings: Settings, clients: Mapping[str, Any]) -> dict[str, AnyServed]:
    """The models of these settings over clients by model name; a name that has none gets that of its kind."""
    return {
        model.id: AnyServed(name, model, clients.get(name) or clients[model.kind])
        for name, model in settings.served.items()
    }


def with_client(own: Services, name: str, client: Any) -> Services:
    """The same services, but for the client of one model."""
    return replace(
        own, models=serve_all(own.settings, {m.name: m.client for m in own.models.values()} | {name: client})
    )


def client_of(services: Services, name: str) -> Any:
    [client] = [model.client for model in services.models.values() if model.name == name]
    return client


@pytest.fixture(scope="session")
def services(server_loop: Loop, configure: Configure) -> Iterator[Services]:
    """The real deployments on the demo checkpoints, and a store and jobs beside them."""
    settings = configure()

    async def load() -> Services:
        store = open_store(settings)
        text, image, video = TextDeployment(settings), ImageDeployment(settings), VideoDeployment(settings)
        for deployment in (text, image, video):
            await deployment.check_health()
        return Services(
            settings=settings,
            store=store,
            jobs=JobStore(store, settings),
            models=serve_all(settings, {"text": text, "image": image, "video": video}),
            started_at=time.time(),
        )

    loaded = server_loop.run(load())
    yield loaded

    async def close() -> None:
        for model in loaded.models.values():
            assert isinstance(model.client, TextDeployment | ImageDeployment | VideoDeployment)
            await model.client.close()

    server_loop.run(close())


Serving = Callable[..., AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def serving(server_loop: Loop, services: Services, configure: Configure) -> Serving:
    """`with serving(limits={...}) as running`: an application with those settings over the same engines."""

    @contextmanager
    def serve(changed: Callable[[Services], Services] | None = None, **changes: Any) -> Generator[Running]:
        settings = configure(**changes)
        store = open_store(settings)
        clients = {model.name: model.client for model in services.models.values()}
        own = replace(
            services,
            settings=settings,
            store=store,
            jobs=JobStore(store, settings),
            models=serve_all(settings, clients),
        )
        own = changed(own) if changed else own
        config = uvicorn.Config(create_http_app(own), log_config=None, ws="none", timeout_graceful_shutdown=5)
        server, sock = uvicorn.Server(config), free_socket()
        ended = server_loop.submit(server.serve(sockets=[sock]))
        while not server.started:
            if ended.done():
                ended.result()
            time.sleep(0.01)
        try:
            yield Running(f"http://127.0.0.1:{sock.getsockname()[1]}", own)
        finally:
            server.should_exit = True
            ended.result(timeout=30)

    return serve


@pytest.fixture(scope="session")
def running(serving: Serving) -> Iterator[Running]:
    """The application that most tests talk to."""
    with serving() as one:
        yield one


@pytest.fixture
async def client(running: Running) -> Any:
    async with running.client() as one:
        yield one


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


@pytest.fixture
def key(request: pytest.FixtureRequest) -> dict[str, str]:
    """A key of this test's own."""
    return {"Idempotency-Key": f"{request.node.name} {secrets.token_hex(4)}"}
