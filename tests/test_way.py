"""The way of an image request, as serve_app/README.md tells it, is the one that a request really goes."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, cast

import httpx
import numpy as np
import pytest

import serve_app
from serve_app.deployments.image import ImageDeployment
from serve_app.handles import Handle, ModelHandle
from serve_app.ingress.asgi import create_http_app
from serve_app.ingress.services import AnyServed, Services
from serve_app.jobs.store import JobStore
from serve_app.settings import Settings, resolve
from serve_app.storage import open_store

PACKAGE = Path(serve_app.__file__).parent
MOST = 20
SIZE = (64, 64)


class Way:
    """The modules of ours that are entered from the call of the route's function until pixels are returned.

    A module counts if code of it is entered that this request has not entered before its route.
    """

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self._before: set[CodeType] = set()
        self._where = "before"

    def look(self, frame: FrameType, event: str, returned: object) -> None:
        """A hook for `sys.setprofile`, of all threads."""
        path = frame.f_code.co_filename
        if self._where == "behind" or not path.startswith(f"{PACKAGE}/"):
            return
        module = path.removeprefix(f"{PACKAGE}/")
        if event == "call":
            self._enter(module, frame.f_code)
        elif event == "return" and self._where == "on" and is_picture(returned):
            self._where = "behind"

    def _enter(self, module: str, code: CodeType) -> None:
        if self._where == "before" and (module, code.co_name) == ("ingress/routes/images.py", "generate"):
            self._where = "on"
        if self._where == "before":
            self._before.add(code)
        elif code not in self._before:
            self.modules.add(module)


def is_picture(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.shape == (*SIZE, 3)


class InProcess:
    """A Serve handle's method, called in this process."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def remote(self, *args: Any) -> Any:
        return asyncio.ensure_future(self._call(*args))


class InProcessHandle:
    """The handle of an image deployment in this process."""

    def __init__(self, image: ImageDeployment) -> None:
        self.describe, self.generate, self.run = InProcess(image.describe), InProcess(image.generate), None

    def options(self, **_: Any) -> None:
        return None


@contextmanager
def watching(way: Way) -> Generator[None]:
    """Within the block, this thread and all that are started in it tell `way` what they enter."""
    hook = cast("Any", way.look)
    gc.disable()  # else what earlier tests left may be finalized in here
    threading.setprofile(hook)
    sys.setprofile(hook)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(cast("Any", None))
        gc.enable()


@pytest.fixture
async def image(tmp_path: Path, demo_home: Path) -> AsyncIterator[tuple[Settings, ImageDeployment]]:
    written = {
        "home": str(demo_home),
        "media": {"root": tmp_path.as_uri()},
        "models": {"image": {"defaults": {"width": SIZE[0], "height": SIZE[1], "num_inference_steps": 1}}},
    }
    settings = resolve(Settings.model_validate(written), "demo")
    deployment = ImageDeployment(settings)
    yield settings, deployment
    await deployment.close()


def app_over(settings: Settings, image: ImageDeployment) -> Any:
    store = open_store(settings)
    client = ModelHandle(cast("Handle", InProcessHandle(image)))
    served = AnyServed("image", settings.served["image"], client)
    models = {served.id: served}
    jobs = JobStore(store, settings)
    return create_http_app(Services(settings=settings, store=store, jobs=jobs, models=models, started_at=time.time()))


def told_of() -> list[str]:
    """The modules that the numbered steps of the README name."""
    section = (PACKAGE / "README.md").read_text().split("## The way of an image request\n")[1].split("\n## ")[0]
    steps = section[section.index("\n1. ") : section.index("\n\n", section.index("\n1. "))]
    return re.findall(r"`([a-z_0-9/]+\.py)`", steps)


async def test_an_image_request_enters_the_few_modules_that_the_readme_names(
    image: tuple[Settings, ImageDeployment],
) -> None:
    settings, deployment = image
    body = {"model": settings.served["image"].id, "prompt": "a fox"}
    transport = httpx.ASGITransport(app_over(settings, deployment))
    way = Way()
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        with watching(way):  # no request came before, so that the engine's thread starts in here
            answer = await client.post("/v1/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    assert way.modules == set(told_of())
    assert len(way.modules) <= MOST
