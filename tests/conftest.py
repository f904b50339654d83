"""Fixtures that more than one part's tests use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def demo_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder whose demo checkpoints outlive one test: `demo.ensure(name, demo_home)` makes each once a run."""
    if home := os.environ.get("DIFFUSION_SERVE_HOME"):
        return Path(home)
    return tmp_path_factory.mktemp("home")
