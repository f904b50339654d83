"""Wires the application: `serve_app.app:build` is what a deployments file imports. All wiring, nothing else.

`from __future__ import annotations` must not come here: Serve reads the annotation of `build` to make the settings,
and hands a raw dict to a function whose annotation is a string.
"""

import importlib.util
import logging
from typing import Any, Literal

import ray
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig

from serve_app.deployments.image import ImageDeployment
from serve_app.deployments.sweeper import Sweeper
from serve_app.deployments.text import TextDeployment
from serve_app.deployments.video import VideoDeployment
from serve_app.ingress.deployment import Ingress
from serve_app.settings import ModelSettings, Profile, Replicas, Settings, resolve
from serve_app.tasks import Kind

logger = logging.getLogger("serve_app")

CLASSES: dict[Kind, type] = {"text": TextDeployment, "image": ImageDeployment, "video": VideoDeployment}
BANNER = (
    "DEMO PROFILE: text, images and video come from small checkpoints with random weights (demo/...), made on this "
    "machine to show that everything works. Set `profile: gpu` or name your own models for real ones."
)


def build(args: Settings) -> Application:
    """The whole application: three model deployments, the sweeper of jobs, and the ingress in front of them."""
    profile, reason = choose_profile(args.profile)
    settings = resolve(args, profile)
    logger.info("profile %s: %s", profile, reason)
    if profile == "demo":
        logger.warning(BANNER)
    models = {kind: _model(kind, settings) for kind in settings.kinds()}
    sweeper = _sweeper(settings, models["video"]) if "video" in models else None
    return _ingress(settings, models, sweeper)


def choose_profile(asked: Profile) -> tuple[Literal["demo", "gpu"], str]:
    """The profile to run and why: `auto` is gpu where the Ray cluster has GPUs and sglang is installed."""
    if asked != "auto":
        return asked, "set in the deployments file"
    gpus = ray.cluster_resources().get("GPU", 0) if ray.is_initialized() else 0
    if not gpus:
        return "demo", "the Ray cluster has no GPU"
    if importlib.util.find_spec("sglang") is None:
        return "demo", f"the Ray cluster has {gpus:g} GPUs, but sglang is not installed"
    return "gpu", f"the Ray cluster has {gpus:g} GPUs and sglang is installed"


def _model(kind: Kind, settings: Settings) -> Application:
    chosen = settings.kinds()[kind]
    deployment = serve.deployment(CLASSES[kind]).options(
        name=kind.capitalize(),
        ray_actor_options=_actor_options(chosen),
        # one call runs and the next waits beside it, so that the engine never idles while a result is encoded
        max_ongoing_requests=_ongoing(kind, settings),
        autoscaling_config=_autoscaling(chosen.replicas),
        health_check_period_s=5,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=30,
    )
    return deployment.bind(settings)


def _ongoing(kind: Kind, settings: Settings) -> int:
    return settings.text.max_running_requests if kind == "text" else 2


def _actor_options(chosen: ModelSettings) -> dict[str, Any]:
    return {"num_cpus": chosen.cpus, "num_gpus": chosen.gpus, "resources": chosen.resources}


def _autoscaling(replicas: Replicas) -> AutoscalingConfig:
    return AutoscalingConfig(
        min_replicas=replicas.min,
        max_replicas=replicas.max,
        target_ongoing_requests=1,
        upscale_delay_s=replicas.upscale_delay_s,
        downscale_delay_s=replicas.downscale_delay_s,
    )


def _sweeper(settings: Settings, video: Application) -> Application:
    return serve.deployment(Sweeper).options(name="Sweeper", ray_actor_options={"num_cpus": 0.05}).bind(settings, video)


def _ingress(settings: Settings, models: dict[Kind, Application], sweeper: Application | None) -> Application:
    deployment = serve.deployment(serve.ingress()(Ingress)).options(
        name="Ingress",
        ray_actor_options={"num_cpus": settings.ingress.cpus},
        max_ongoing_requests=settings.ingress.max_ongoing_requests,
        autoscaling_config=_autoscaling(settings.ingress.replicas),
        graceful_shutdown_timeout_s=30,
    )
    return deployment.bind(settings, models, sweeper)
