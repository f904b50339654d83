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
    with pytest.raises(ValueError, match=r"media\.root is the folder file:///.*2 nodes.*s3://.*media\.shared"):
        check_media(settings(**media), nodes=2)


@pytest.mark.parametrize("media", [{"root": "s3://bucket/media"}, {"root": "file:///nfs/media", "shared": True}])
def test_what_every_node_reaches_is_not(media: dict[str, Any]) -> None:
    check_media(settings(**media), nodes=2)


INLINE_BYTES = 100 * 1024
"""Ray's `max_direct_call_object_size`: an answer above it goes through the object stores of two nodes."""


def test_what_a_replica_tells_a_new_controller_fits_into_an_answer() -> None:
    application = build_app(build(Settings()), name="diffusion")
    assert len(application.deployments) == 5
    for deployment in application.deployments:
        config = DeploymentConfig.from_proto_bytes(deployment._deployment_config.to_proto_bytes())  # pyright: ignore[reportPrivateUsage]
        assert 2 * len(cloudpickle.dumps(config)) < INLINE_BYTES / 4  # it is in there twice, with little else
        assert config.request_router_config.get_request_router_class() is PowerOfTwoChoicesRequestRouter


PLACED: dict[str, Any] = {
    "cpus": 0.5,
    "labels": {"zone": "a"},
    "resources": {"disk": 2.0},
    "replicas": {"min": 2, "max": 7, "upscale_delay_s": 3, "downscale_delay_s": 90},
}
MODELS: dict[str, Any] = {
    "text": {"max_running_requests": 5, "time_limit_s": 50, **PLACED},
    "image": {"time_limit_s": 70, **PLACED},
    "video": {"time_limit_s": 400, "engine": "sglang", "gpus": 1},
}
INGRESS: dict[str, Any] = {
    "cpus": 0.3,
    "labels": {"zone": "b"},
    "max_ongoing_requests": 40,
    "replicas": {"min": 1, "max": 4},
}


@pytest.fixture(scope="module")
def deployed() -> dict[str, Any]:
    """Serve's deployments by name, of a file that sets what an operator may set of them."""
    application = build(Settings.model_validate({"models": MODELS, "ingress": INGRESS, "limits": {"sync_wait_s": 30}}))
    return {deployment.name: deployment for deployment in build_app(application, name="diffusion").deployments}


@pytest.mark.parametrize(("name", "at_once"), [("text", 6), ("image", 2), ("video", 2), ("ingress", 40)])
def test_a_replica_is_sent_what_it_runs_and_one_more(deployed: dict[str, Any], name: str, at_once: int) -> None:
    assert deployed[name].max_ongoing_requests == at_once


@pytest.mark.parametrize("name", ["text", "image", "video", "ingress", "sweeper"])
def test_a_lane_that_becomes_free_is_seen_at_once(deployed: dict[str, Any], name: str) -> None:
    """Serve's router asks a busy replica again after twice the time of before, up to this; its default is 0.5 s."""
    assert deployed[name]._deployment_config.request_router_config.max_backoff_s <= 0.05


def test_a_replica_may_end_what_it_has_accepted(deployed: dict[str, Any]) -> None:
    seconds = {name: each._deployment_config.graceful_shutdown_timeout_s for name, each in deployed.items()}
    assert (seconds["text"], seconds["image"], seconds["video"]) == (100, 140, 800)
    assert seconds["ingress"] == 150  # the longest that is not a job, and some time to answer


def test_the_ingress_stays_as_long_as_a_caller_waits_for_a_video() -> None:
    application = build(Settings.model_validate({"models": MODELS, "limits": {"sync_wait_s": 300}}))
    deployments: list[Any] = build_app(application, name="diffusion").deployments
    [ingress] = [each for each in deployments if each.name == "ingress"]
    assert ingress._deployment_config.graceful_shutdown_timeout_s == 310


def test_only_who_needs_no_gpu_is_replaced_before_it_stops(deployed: dict[str, Any]) -> None:
    surge = {name: deployed[name]._deployment_config.max_surge_percent for name in (*MODELS, "ingress")}
    assert surge == {"text": 100, "image": 100, "video": 0, "ingress": 100}


def test_replicas_are_placed_as_the_file_says(deployed: dict[str, Any]) -> None:
    options = {name: each.ray_actor_options for name, each in deployed.items()}
    for name in ("text", "image"):
        assert (options[name]["num_cpus"], options[name]["resources"]) == (0.5, {"disk": 2.0})
        assert options[name]["label_selector"] == {"zone": "a"}
    assert options["video"]["num_gpus"] == 1
    assert options["ingress"]["num_cpus"] == 0.3
    assert options["ingress"]["label_selector"] == options["sweeper"]["label_selector"] == {"zone": "b"}


def test_replicas_are_as_many_as_the_file_says_and_each_model_has_its_policy(deployed: dict[str, Any]) -> None:
    for name in ("text", "image"):
        scaling = deployed[name]._deployment_config.autoscaling_config
        assert (scaling.min_replicas, scaling.max_replicas) == (2, 7)
        assert (scaling.upscale_delay_s, scaling.downscale_delay_s) == (3, 90)
        assert scaling.policy.policy_kwargs == {"model": name}
    scaling = deployed["ingress"]._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (1, 4)
