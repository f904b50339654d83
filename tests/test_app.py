"""What is refused when the application is built."""

from __future__ import annotations

from typing import Any

import pytest
from ray import cloudpickle
from ray.serve._private.build_app import build_app
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.request_router import PowerOfTwoChoicesRequestRouter

from serve_app.app import build, check_media
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


INLINE_BYTES = 100 * 1024
"""Ray's `max_direct_call_object_size`: an answer above it goes through the object stores of two nodes."""


def test_what_a_replica_tells_a_new_controller_fits_into_an_answer() -> None:
    application = build_app(build(Settings()), name="diffusion")
    assert len(application.deployments) == 5
    for deployment in application.deployments:
        config = DeploymentConfig.from_proto_bytes(deployment._deployment_config.to_proto_bytes())  # pyright: ignore[reportPrivateUsage]
        assert 2 * len(cloudpickle.dumps(config)) < INLINE_BYTES / 4  # it is in there twice, with little else
        assert config.request_router_config.get_request_router_class() is PowerOfTwoChoicesRequestRouter
