"""Credentials and endpoint of S3, as environment variables give them."""

from __future__ import annotations

import httpx
import pytest

from serve_app.environment import s3_access
from serve_app.storage.s3 import S3Store
from tests.s3_server import S3Server

NAMES = [
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "FSSPEC_S3_KEY", "FSSPEC_S3_SECRET", "FSSPEC_S3_ENDPOINT_URL"),
]


def test_s3_access_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    assert s3_access() == type(s3_access())()
    monkeypatch.setenv("FSSPEC_S3_KEY", "fk")
    monkeypatch.setenv("FSSPEC_S3_SECRET", "fs")
    monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", "http://f")
    access = s3_access()
    assert (access.aws_access_key_id, access.aws_secret_access_key, access.endpoint_url) == ("fk", "fs", "http://f")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ak")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://a")
    access = s3_access()
    assert (access.aws_access_key_id, access.aws_secret_access_key, access.endpoint_url) == ("ak", "hush", "http://a")
    assert "hush" not in repr(access)


async def test_fsspec_names_reach_the_server(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FSSPEC_S3_KEY", "testkey")
    monkeypatch.setenv("FSSPEC_S3_SECRET", "testsecret")
    monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", s3_server.endpoint)
    store = S3Store(s3_server.bucket, "fsspec-names", s3_access())
    await store.put("x.png", b"1")
    async with httpx.AsyncClient() as client:
        assert (await client.get(store.url("x.png", expires_s=60))).content == b"1"
