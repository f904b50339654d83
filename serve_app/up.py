"""`diffusion-serve up`: serve from the command line, with the option names of Dynamo's launch scripts.

The options become a deployments file, which is printed, so that it can be kept and edited, and then run as `serve run`
would. What `serve run` lacks is added: at SIGTERM or Ctrl-C nothing new is let in and what runs is finished (`drain`).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from serve_app.check import Problem, check_config, repeated_keys
from serve_app.render import dump, merged
from serve_app.tasks import KINDS, Kind

NAME = "diffusion"
BASE: dict[str, Any] = {
    "proxy_location": "EveryNode",
    "http_options": {"host": "127.0.0.1", "port": 8000},
    "logging_config": {"enable_access_log": False},
    "applications": [
        {
            "name": NAME,
            "route_prefix": "/",
            "import_path": "serve_app.app:build",
            "autoscaling_policy": {"policy_function": "serve_app.autoscaling:WaitPolicy"},
            "args": {},
        }
    ],
}
WAN: dict[str, dict[str, Any]] = {
    "1b": {"model": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "gpus": 1},
    "14b": {"model": "Wan-AI/Wan2.1-T2V-14B-Diffusers", "gpus": 2},
}
S3_NAMES = {
    "FSSPEC_S3_KEY": "AWS_ACCESS_KEY_ID",
    "FSSPEC_S3_SECRET": "AWS_SECRET_ACCESS_KEY",
    "FSSPEC_S3_ENDPOINT_URL": "AWS_ENDPOINT_URL",
}
"""Dynamo's names of the variables that s3fs reads by AWS's."""
NOTICE_S = 2.0
"""From /ready saying no until the routes go, so that a load balancer can turn away."""
READERS_S = 10.0
"""How long those who still read when all work has ended, a file or the events of a job, may go on."""
POLL_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `diffusion-serve up`; those left out are what the deployments file or the profile says."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="a deployments file to lay these options over")
    parser.add_argument("--print", action="store_true", help="print the deployments file and stop")
    kinds = parser.add_argument_group("what to serve", "only the kinds named; all three where none is")
    kinds.add_argument("--dllm-algorithm", metavar="NAME", help="text by this algorithm [DLLM_ALGORITHM]")
    kinds.add_argument("--image-diffusion-worker", action="store_true", help="images")
    kinds.add_argument("--video-generation-worker", action="store_true", help="videos")
    model = parser.add_argument_group("the model")
    model.add_argument("--model-path", metavar="MODEL", help="hub id or folder; with one kind only")
    model.add_argument("--served-model-name", metavar="NAME", help="what callers ask for; with one kind only")
    model.add_argument("--tp-size", "--tp", type=int, metavar="N", help="GPUs a replica, tensor parallel [TP_SIZE]")
    model.add_argument("--dllm-algorithm-config", metavar="FILE", help="its parameters [DLLM_ALGORITHM_CONFIG]")
    model.add_argument("--wan-size", choices=sorted(WAN), help="Wan 1.3B on one GPU or 14B on two")
    model.add_argument("--num-frames", type=int, metavar="N", help="default of videos")
    model.add_argument("--height", type=int, metavar="N", help="default of images and videos")
    model.add_argument("--width", type=int, metavar="N", help="default of images and videos")
    model.add_argument("--num-inference-steps", type=int, metavar="N", help="default of images and videos")
    media = parser.add_argument_group("media and HTTP")
    media.add_argument("--media-output-fs-url", "--fs-url", metavar="URL", help="file:///folder or s3://bucket/prefix")
    media.add_argument("--media-output-http-url", "--http-url", metavar="URL", help="base of the URLs in answers")
    media.add_argument("--http-port", type=int, metavar="PORT", help="[DYN_HTTP_PORT, HTTP_PORT]")
    media.add_argument("--http-host", metavar="ADDRESS", help="127.0.0.1 unless told; 0.0.0.0 lets others in")
    parser.add_argument("--dashboard", action="store_true", help="Ray's dashboard too, at http://127.0.0.1:8265")


def run(args: argparse.Namespace) -> int:
    """Prints the deployments file and serves it until a signal; 1 where it has problems or an option is wrong."""
    repeated: tuple[Problem, ...] = ()
    try:
        if args.config is not None:
            repeated = repeated_keys(args.config.read_text(encoding="utf-8"))
        config = deployments_file(args, os.environ)
    except (OSError, ValueError, yaml.YAMLError) as error:
        print(f"diffusion-serve up: {error}", file=sys.stderr)
        return 1
    report = check_config(config)
    for problem in (*repeated, *report.problems):
        print(problem, file=sys.stderr)
    if repeated or not report.ok:
        return 1
    print(dump(config), end="", flush=True)
    if args.print:
        return 0
    os.environ.update(s3_variables(os.environ))
    return serve_until_told(config, dashboard=args.dashboard)


# --- options to a deployments file ------------------------------------------------------------------------------------


def deployments_file(args: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, Any]:
    """The deployments file that the options and the environment ask for; raises ValueError on what contradicts."""
    base = BASE if args.config is None else yaml.safe_load(args.config.read_text(encoding="utf-8"))
    http = {"host": args.http_host, "port": _port(args, environ)}
    media = {"root": args.media_output_fs_url, "public_url": args.media_output_http_url}
    models = _models(args, environ)
    settings: dict[str, Any] = {"media": _given(media), **models}
    if any("gpus" in model for model in models.values()):
        settings["profile"] = "gpu"  # who counts GPUs does not want the demo
    changes = {
        "http_options": _given(http),
        "applications": [{"name": _name(base), "args": {key: value for key, value in settings.items() if value}}],
    }
    return merged([base, changes])


def s3_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """AWS's names for what only Dynamo's names say."""
    return {aws: environ[fsspec] for fsspec, aws in S3_NAMES.items() if environ.get(fsspec) and not environ.get(aws)}


def _name(config: dict[str, Any]) -> str:
    applications = config.get("applications") or []
    if len(applications) != 1:
        raise ValueError(f"--config needs a file with one application, not {len(applications)}")
    return applications[0].get("name", "default")


def _port(args: argparse.Namespace, environ: Mapping[str, str]) -> int | None:
    if args.http_port is not None:
        return args.http_port
    for variable in ("DYN_HTTP_PORT", "HTTP_PORT"):
        if value := environ.get(variable):
            return _integer(variable, value)
    return None


def _models(args: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, Any]:
    chosen = _kinds(args)
    if (args.model_path or args.served_model_name) and len(chosen) != 1:
        raise ValueError("--model-path and --served-model-name need exactly one kind, such as --image-diffusion-worker")
    models: dict[str, Any] = {kind: {} if kind in chosen else {"enabled": False} for kind in KINDS}
    if "text" in chosen:
        models["text"] |= _text(args, environ)
    for kind in chosen:
        models[kind] |= _given({"model": args.model_path, "served_name": args.served_model_name})
        if kind != "text":
            models[kind] |= _media_model(kind, args)
        if args.tp_size:
            models[kind] |= _parallel(args.tp_size)
    return models


def _kinds(args: argparse.Namespace) -> tuple[Kind, ...]:
    flags: dict[Kind, Any] = {
        "text": args.dllm_algorithm,
        "image": args.image_diffusion_worker,
        "video": args.video_generation_worker,
    }
    return tuple(kind for kind in KINDS if flags[kind]) or KINDS


def _text(args: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, Any]:
    text = _given({"algorithm": args.dllm_algorithm or environ.get("DLLM_ALGORITHM") or None})
    if path := args.dllm_algorithm_config or environ.get("DLLM_ALGORITHM_CONFIG"):
        text["algorithm_config"] = _algorithm_config(Path(path))
    if not args.tp_size and (size := environ.get("TP_SIZE")):
        text |= _parallel(_integer("TP_SIZE", size))
    return text


def _algorithm_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"--dllm-algorithm-config {path}: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"--dllm-algorithm-config {path}: must hold a mapping, such as threshold: 0.95")
    return config


def _media_model(kind: Kind, args: argparse.Namespace) -> dict[str, Any]:
    defaults = {"width": args.width, "height": args.height, "num_inference_steps": args.num_inference_steps}
    if kind == "video":
        defaults["num_frames"] = args.num_frames
    model = dict(WAN[args.wan_size]) if kind == "video" and args.wan_size else {}
    if given := _given(defaults):
        model["defaults"] = given
    return model


def _parallel(gpus: int) -> dict[str, Any]:
    return {"gpus": gpus, "parallel": "tensor"} if gpus > 1 else {"gpus": gpus}


def _integer(variable: str, value: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise ValueError(f"the environment's {variable} is not a number: '{value}'") from error


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


# --- serving and stopping -------------------------------------------------------------------------------------------


class Stop(BaseException):
    """A signal asked to stop. No Exception, so that `serve run` lets it through."""


def serve_until_told(config: dict[str, Any], *, dashboard: bool) -> int:
    """Runs `serve run` on the config in this process; a signal drains first, a second one during that cuts off.

    Ray's dashboard is left out of a local Ray unless asked for: its processes cost a quarter of the start on two cores.
    """
    import ray
    from ray import serve
    from ray.serve.scripts import run as serve_run

    # here and not in `serve run`, because Ray sets a handler for SIGTERM of its own while it starts
    ray.init(address=os.environ.get("RAY_ADDRESS"), namespace="serve", include_dashboard=dashboard)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    with tempfile.NamedTemporaryFile("w", prefix="deployments-", suffix=".yaml", encoding="utf-8") as file:
        file.write(dump(config))
        file.flush()
        try:
            serve_run.main([file.name], standalone_mode=False)
        except Stop:
            drain(_name(config))
        finally:
            serve.shutdown()
            ray.shutdown()
    return 0


def drain(name: str) -> None:
    """Lets no new work in, waits for the requests that run, and ends the application, which hands back other videos.

    /ready is 503 from the beginning. Another signal ends the waiting.
    """
    from ray import serve

    print("draining: nothing new is let in; a second signal stops at once", file=sys.stderr, flush=True)
    try:
        noticed_at = time.monotonic() + NOTICE_S
        while "Ingress" in _deployments(name) and (_inside(name) or time.monotonic() < noticed_at):
            time.sleep(POLL_S)
        serve.delete(name, _blocking=False)
        read_until = time.monotonic() + READERS_S
        while _deployments(name) and time.monotonic() < read_until:
            time.sleep(POLL_S)
    except Stop:
        print("stopping at once", file=sys.stderr, flush=True)


def _deployments(name: str) -> set[str]:
    from ray import serve

    application = serve.status().applications.get(name)
    return set(application.deployments) if application else set()


def _inside(name: str) -> int:
    """Shuts the gate of every ingress replica; the number of requests still inside."""
    from ray import serve

    return sum(serve.get_deployment_handle("Ingress", name).broadcast("drain").results())


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stop(signal.Signals(number).name)
