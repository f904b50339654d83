"""Fixtures that more than one part's tests use."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3_server import S3Server

TOGETHER = ("serve", "ingress")
"""Folders whose tests share an application that is made once; they come first, since they take longest."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where two processes share the tests (`make test`), those of a file, or of a folder in TOGETHER, stay together."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=lambda item: TOGETHER.index(_group(item)) if _group(item) in TOGETHER else len(TOGETHER))


def _group(item: pytest.Item) -> str:
    path = item.path.relative_to(Path(__file__).parent)
    return path.parts[0] if path.parts[0] in TOGETHER else str(path)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _log_reaches_caplog() -> None:
    """`telemetry.setup`, which many tests call, keeps our lines from the root logger, where caplog listens."""
    logging.getLogger("serve_app").propagate = True


@pytest.fixture(scope="session")
def demo_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder that the tests of a run share."""
    if home := os.environ.get("DIFFUSION_SERVE_HOME"):
        return Path(home)
    base = tmp_path_factory.getbasetemp()
    # the processes of one run share it: each has a folder below the run's own
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "home"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def _s3_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture
def s3_server(_s3_process: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A real S3 server (rclone) shared by the whole run and running, its address and credentials in the environment.

    Give each test its own prefix: `s3://{s3_server.bucket}/some-prefix`. `stop()` and `start()` play an outage.
    """
    _s3_process.start()
    for name, value in _s3_process.env.items():
        monkeypatch.setenv(name, value)
    return _s3_process
