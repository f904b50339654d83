"""A replica is healthy only where what it makes can be encoded and stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.deployments.image import ImageDeployment
from serve_app.deployments.video import VideoDeployment
from serve_app.errors import GenerationFailed, StorageFailed
from serve_app.settings import Settings
from serve_app.storage import open_store
from serve_app.storage.base import check_store
from tests.deployments.conftest import Configure
from tests.s3_server import S3Server


async def test_a_store_that_works_is_left_as_it_was(configure: Configure, any_media: dict[str, str]) -> None:
    store = open_store(configure(media=any_media))
    await check_store(store, any_media["root"])
    assert await store.list("") == []


async def test_a_bucket_that_is_not_there(s3_server: S3Server) -> None:
    settings = Settings.model_validate({"media": {"root": "s3://no-such-bucket/media"}})
    with pytest.raises(StorageFailed, match=r"media.root 's3://no-such-bucket/media' does not work: .*NoSuchBucket"):
        await check_store(open_store(settings), settings.media.root)


@pytest.mark.parametrize("cls", [ImageDeployment, VideoDeployment])
async def test_wrong_credentials(
    cls: type[ImageDeployment | VideoDeployment],
    configure: Configure,
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    replica = cls(configure(media={"root": f"s3://{s3_server.bucket}/media"}))
    with pytest.raises(StorageFailed, match=r"does not work: .*SignatureDoesNotMatch"):
        await replica.check_health()
    await replica.close()


async def test_without_ffmpeg_there_are_no_videos(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\nexit 1\n")
    replica = VideoDeployment(configure())
    for program in ("/nowhere/ffmpeg", str(broken)):
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", program)
        with pytest.raises(GenerationFailed):
            await replica.check_health()
        broken.chmod(0o755)
    monkeypatch.undo()
    await replica.check_health()
    await replica.close()
