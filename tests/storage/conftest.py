"""Object stores for tests: in a folder, and on a real S3 server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serve_app.environment import s3_access
from serve_app.settings import Settings
from serve_app.storage import open_store
from serve_app.storage.base import ObjectStore
from serve_app.storage.s3 import S3Store
from tests.s3_server import S3Server

BIG = 17_000_000


def settings(root: str, **media: Any) -> Settings:
    return Settings.model_validate({"media": {"root": root, **media}})


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "file":
        return open_store(settings((tmp_path / "media").as_uri()))
    server: S3Server = request.getfixturevalue("s3_server")
    return open_store(settings(f"s3://{server.bucket}/{tmp_path.name}"))


@pytest.fixture
def s3_store(s3_server: S3Server, tmp_path: Path) -> S3Store:
    return S3Store(s3_server.bucket, tmp_path.name, s3_access())
