"""A really served app on a real local Ray: the whole demo profile behind HTTP, shared by one test session."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import serve

from serve_app.app import build
from serve_app.server import prepare_ray
from serve_app.settings import Settings


@dataclass(frozen=True)
class Served:
    base_url: str
    media: Path
    args: dict[str, Any]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_ready(base_url: str, timeout_s: float = 280) -> None:
    """Returns when /ready answers 200; fails with its last answer after `timeout_s` seconds."""
    deadline, last = time.monotonic() + timeout_s, "no answer"
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{base_url}/ready", timeout=5)
        except httpx.TransportError as error:
            last = str(error)
        else:
            if answer.status_code == 200:
                return
            last = answer.text
        time.sleep(0.5)
    pytest.fail(f"not ready after {timeout_s} s: {last}")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A local Ray with Serve's proxy on a free port of 127.0.0.1; gives the base URL."""
    port = free_port()
    prepare_ray()
    # a short folder: Ray's Unix sockets lie below it, and their paths are limited to 107 bytes
    ray.init(include_dashboard=False, num_cpus=8, log_to_driver=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


@pytest.fixture(scope="session")
def served(cluster: str, demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The demo profile, ready; its media lie in a folder of its own."""
    media = tmp_path_factory.mktemp("media")
    args = {"profile": "demo", "home": str(demo_home), "media": {"root": media.as_uri()}, "jobs": {"sweep_s": 1}}
    deploy(args)
    wait_ready(cluster)
    return Served(base_url=cluster, media=media, args=args)


def deploy(args: dict[str, Any]) -> None:
    """Serves the application with these args, in place of what it was; returns when it runs."""
    serve.run(build(Settings.model_validate(args)), name="diffusion", route_prefix="/")
