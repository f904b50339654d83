"""What is refused when the application is built."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.app import check_media
from serve_app.settings import Settings, resolve


def settings(**media: Any) -> Settings:
    return resolve(Settings.model_validate({"home": "/models", "media": media}), "demo")


@pytest.mark.parametrize("media", [{}, {"root": "file:///media"}])
def test_a_folder_is_refused_where_there_is_more_than_one_node(media: dict[str, Any]) -> None:
    check_media(settings(**media), nodes=1)
    with pytest.raises(ValueError, match=r"media\.root is the folder file:///.*3 nodes.*s3://.*media\.shared"):
        check_media(settings(**media), nodes=3)


@pytest.mark.parametrize("media", [{"root": "s3://bucket/media"}, {"root": "file:///nfs/media", "shared": True}])
def test_what_every_node_reaches_is_not(media: dict[str, Any]) -> None:
    check_media(settings(**media), nodes=3)
