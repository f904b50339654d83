"""Wires the application: `serve_app.app:build` is what a deployments file imports. All wiring, nothing else.

`from __future__ import annotations` must not come here: Serve reads the annotation of `build` to make the settings,
and hands a raw dict to a function whose annotation is a string.
"""

import importlib.util
import logging
import pickle
import pkgutil
import secrets
from collections.abc import Mapping
from typing import Any, Literal, cast

import ray
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from serve_app.deployments.image import ImageDeployment
from serve_app.deployments.replica import Served
from serve_app.deployments.sweeper import Sweeper
from serve_app.deployments.text import TextDeployment
from serve_app.deployments.video import VideoDeployment
from serve_app.ingress.deployment import Ingress
from serve_app.model_settings import ModelSettings, Replicas, TextSettings
from serve_app.settings import Profile, Settings, resolve
from serve_app.tasks import Kind

logger = logging.getLogger("serve_app")


class ServedText(Served, TextDeployment): ...


class ServedImage(Served, ImageDeployment): ...


class ServedVideo(Served, VideoDeployment): ...


class ServedSweeper(Served, Sweeper): ...


CLASSES: dict[Kind, type] = {"text": ServedText, "image": ServedImage, "video": ServedVideo}
FIND_FREE_S = 0.05
"""How long a replica's lane that became free may stand idle while requests wait: see `_deployment`."""
BANNER = (
    "DEMO PROFILE: text, images and video come from small checkpoints (demo/...) that were trained to show that "
    "everything works: they answer simple questions, and draw and film a small world of emoji. "
    "Set `profile: gpu` or name your own models for real ones."
)


def build(args: Settings) -> Application:
    """The whole application: a deployment for each model, the sweeper of jobs, and the ingress in front of them."""
    profile, reason = choose_profile(args.profile)
    settings = resolve(args, profile)
    settings = settings.model_copy(update={"instance": settings.instance or secrets.token_hex(8)})
    logger.info("profile %s: %s", profile, reason)
    check_media(settings, nodes_for_replicas())
    if profile == "demo":
        logger.warning(BANNER)
    models = {name: _model(name, settings) for name in settings.served}
    return _ingress(settings, models, _sweeper(settings, models))


def choose_profile(asked: Profile) -> tuple[Literal["demo", "gpu"], str]:
    """The profile to run and why: `auto` is gpu where the Ray cluster has GPUs and sglang is installed."""
    if asked != "auto":
        return asked, "set in the deployments file"
    gpus = ray.cluster_resources().get("GPU", 0) if ray.is_initialized() else 0
    has_sglang = importlib.util.find_spec("sglang") is not None
    reason = f"the Ray cluster has {gpus:g} GPUs, and sglang is {'' if has_sglang else 'not '}installed"
    return ("gpu" if gpus and has_sglang else "demo"), reason


def nodes_for_replicas() -> int:
    """How many nodes of the Ray cluster may hold a replica: a head with 0 CPUs does not."""
    nodes = ray.nodes() if ray.is_initialized() else []
    return sum(node["Alive"] and node["Resources"].get("CPU", 0) > 0 for node in nodes)


def check_media(settings: Settings, nodes: int) -> None:
    """Raises ValueError if media would lie in a folder of one node, where replicas on other nodes cannot read them."""
    media = settings.media
    if nodes > 1 and media.root.startswith("file:") and not media.shared:
        raise ValueError(
            f"media.root is the folder {media.root}, and the cluster has {nodes} nodes, which cannot read each other's "
            "files: set media.root to s3://bucket/prefix, or media.shared to true if every node mounts that folder"
        )


def _model(name: str, settings: Settings) -> Application:
    chosen = settings.served[name]
    lanes = chosen.max_running_requests if isinstance(chosen, TextSettings) else 1
    deployment = _deployment(CLASSES[chosen.kind]).options(
        name=name,
        ray_actor_options={
            "num_cpus": chosen.cpus,
            "num_gpus": chosen.gpus,
            "resources": chosen.resources,
            "label_selector": chosen.labels,
        },
        # one more waits its turn, so that the engine does not idle while a result is encoded
        max_ongoing_requests=lanes + 1,
        autoscaling_config=_autoscaling(chosen.replicas, lanes, AutoscalingPolicy(policy_kwargs={"model": name})),
        health_check_period_s=5,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=_longest_s(chosen),
        # a spare GPU is rare: the old replica stops before the new one starts, and requests wait in between
        max_surge_percent=0 if chosen.gpus else 100,
    )
    return deployment.bind(settings, name)


def _longest_s(model: ModelSettings) -> float:
    """How long a replica may take to finish what it has accepted: one running generation and one waiting."""
    return 2 * model.time_limit_s


def _deployment(cls: type) -> Deployment:
    """A deployment with Serve's own router, by its name.

    Where every replica is busy, requests wait in the router, which looks for a free one again and again: Serve's every
    0.5 s in the end, ours every FIND_FREE_S. By the former a fifth of 64 lanes stood idle (benchmarks/routing.py).

    Serve pickles its source instead, 109 KB, into what each replica tells a controller that comes back. Ray carries an
    answer above 100 KB through the object stores, where a new head's first try often fails and the next comes after
    10 s. Just then the controller stops waiting for its replicas, and tells HAProxy that there is no ingress.
    """
    router = RequestRouterConfig.model_validate({"max_backoff_s": FIND_FREE_S})  # typed as a dict by Serve
    router.set_serialized_request_router_cls(pickle.dumps(pkgutil.resolve_name(str(router.request_router_class))))
    # Serve's type hints say that decorating a class gives a function
    return cast(Deployment, serve.deployment(cls)).options(request_router_config=router)


def _autoscaling(replicas: Replicas, ongoing: float, policy: AutoscalingPolicy | None = None) -> AutoscalingConfig:
    """Bounds and delays. Without `policy`, Serve's own policy aims at `ongoing` requests per replica."""
    options: dict[str, Any] = {} if policy is None else {"policy": policy}
    return AutoscalingConfig(
        min_replicas=replicas.min,
        max_replicas=replicas.max,
        target_ongoing_requests=ongoing,
        upscale_delay_s=replicas.upscale_delay_s,
        downscale_delay_s=replicas.downscale_delay_s,
        **options,
    )


def _sweeper(settings: Settings, models: Mapping[str, Application]) -> Application:
    options = {"num_cpus": 0.05, "label_selector": settings.ingress.labels}
    deployment = _deployment(ServedSweeper).options(name="sweeper", ray_actor_options=options)
    videos = {id: models[name] for name, model in settings.served.items() if model.kind == "video" for id in model.ids}
    return deployment.bind(settings, videos)


def _ingress(settings: Settings, models: Mapping[str, Application], sweeper: Application) -> Application:
    at_once = settings.ingress.max_ongoing_requests
    deployment = _deployment(serve.ingress()(Ingress)).options(
        name="ingress",
        ray_actor_options={"num_cpus": settings.ingress.cpus, "label_selector": settings.ingress.labels},
        max_ongoing_requests=at_once,
        # Serve asks a deployment for its autoscaling statistics, ours of the waiting work, only if it has this
        autoscaling_config=_autoscaling(settings.ingress.replicas, max(1, at_once // 4)),
        graceful_shutdown_timeout_s=_longest_answer_s(settings),
        max_surge_percent=100,  # the new replica is there before the old one stops listening
    )
    return deployment.bind(settings, models, sweeper)


def _longest_answer_s(settings: Settings) -> float:
    """How long a caller may wait for an answer. A video that takes longer continues as a job."""
    answering = [_longest_s(model) for model in settings.served.values() if model.kind != "video"]
    return max([settings.limits.sync_wait_s, *answering]) + 10
