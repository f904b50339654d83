"""`diffusion-serve up`: serve from the command line, with the option names of Dynamo's launch scripts.

The options become a deployments file, which is printed, so that it can be kept and edited, and then served (see
`server.py`), if this machine has what it asks for.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from serve_app.check import Problem, check_config, repeated_keys
from serve_app.render import dump, merged
from serve_app.server import application_name, serve_until_told, starts_ray
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `diffusion-serve up`; those left out are what the deployments file or the profile says."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="a deployments file to lay these options over")
    parser.add_argument("--print", action="store_true", help="print the deployments file and stop")
    kinds = parser.add_argument_group("what to serve", "only the kinds named; what the file says where none is")
    kinds.add_argument("--dllm-algorithm", metavar="NAME", help="text by this algorithm [DLLM_ALGORITHM]")
    kinds.add_argument("--image-diffusion-worker", action="store_true", help="images")
    kinds.add_argument("--video-generation-worker", action="store_true", help="videos")
    model = parser.add_argument_group("the model")
    model.add_argument("--model-path", metavar="MODEL", help="hub id or folder; with one kind only")
    model.add_argument("--served-model-name", metavar="NAME", help="what callers ask for; with one kind only")
    model.add_argument("--revision", metavar="REVISION", help="commit, tag or branch of the hub id; with one kind only")
    model.add_argument("--trust-remote-code", action="store_true", default=None, help="run the checkpoint's own code")
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
    media.add_argument("--keys-env", metavar="NAME", help="variable that holds the API keys: name:key,name:key")
    parser.add_argument("--dashboard", action="store_true", help="Ray's dashboard too, at http://127.0.0.1:8265")


def run(args: argparse.Namespace) -> int:
    """Serves the deployments file, printed where options made it, until a signal. Returns 1 if it cannot be served."""
    repeated: tuple[Problem, ...] = ()
    try:
        if args.config is not None:
            repeated = repeated_keys(args.config.read_text(encoding="utf-8"))
        config = deployments_file(args, os.environ)
    except (OSError, ValueError, yaml.YAMLError) as error:
        print(f"diffusion-serve up: {error}", file=sys.stderr)
        return 1
    report = check_config(config, here=starts_ray() and not args.print)
    for problem in (*repeated, *report.problems):
        print(problem, file=sys.stderr)
    if repeated or not report.ok:
        return 1
    if not report.can_start:
        print("diffusion-serve up: this machine lacks what the warnings name; nothing was started", file=sys.stderr)
        return 1
    if args.print or not _is_as_written(config, args.config):
        print(dump(config), end="", flush=True)
    if args.print:
        return 0
    print(report.summary, file=sys.stderr, flush=True)
    return serve_until_told(config, dashboard=args.dashboard)


def _is_as_written(config: dict[str, Any], file: Path | None) -> bool:
    """Whether the options changed nothing, so that nobody needs to see the file again."""
    return file is not None and config == yaml.safe_load(file.read_text(encoding="utf-8"))


# --- options to a deployments file ------------------------------------------------------------------------------------


def deployments_file(args: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, Any]:
    """The deployments file for these options and this environment. Raises ValueError on contradictions."""
    base = BASE if args.config is None else yaml.safe_load(args.config.read_text(encoding="utf-8"))
    http = {"host": args.http_host, "port": _port(args, environ)}
    media = {"root": args.media_output_fs_url, "public_url": args.media_output_http_url}
    name = application_name(base)
    application: dict[str, Any] = {"name": name, **base["applications"][0]}
    models = _models(args, environ, (application.get("args") or {}).get("models") or {})
    settings: dict[str, Any] = {"media": _given(media), "access": _given({"keys_env": args.keys_env}), "models": models}
    if any("gpus" in model for model in models.values() if model is not None):
        settings["profile"] = "gpu"  # who asks for GPUs does not want the demo
    changes = {
        "http_options": _given(http),
        "applications": [{"name": name, "args": {key: value for key, value in settings.items() if value}}],
    }
    return merged([{**base, "applications": [application]}, changes])


def _port(args: argparse.Namespace, environ: Mapping[str, str]) -> int | None:
    if args.http_port is not None:
        return args.http_port
    for variable in ("DYN_HTTP_PORT", "HTTP_PORT"):
        if value := environ.get(variable):
            return _integer(variable, value)
    return None


def _models(args: argparse.Namespace, environ: Mapping[str, str], written: Mapping[str, Any]) -> dict[str, Any]:
    """What the options say of models, over those `written` in the file: null for what they do not name."""
    named = _named_kinds(args)
    chosen = named or tuple(kind for kind in KINDS if written.get(kind, {}) is not None)
    own = {
        "model": args.model_path,
        "served_name": args.served_model_name,
        "revision": args.revision,
        "trust_remote_code": args.trust_remote_code,
    }
    if _given(own) and len(chosen) != 1:
        raise ValueError(
            "--model-path, --served-model-name, --revision and --trust-remote-code need exactly one kind, "
            "such as --image-diffusion-worker"
        )
    models: dict[str, Any] = {kind: {} for kind in chosen}
    if "text" in chosen:
        models["text"] |= _text(args, environ)
    for kind in chosen:
        models[kind] |= _given(own)
        if kind != "text":
            models[kind] |= _media_model(kind, args)
        if args.tp_size:
            models[kind] |= _parallel(args.tp_size)
    return (
        dict.fromkeys((*KINDS, *written)) | models
        if named
        else {kind: model for kind, model in models.items() if model}
    )


def _named_kinds(args: argparse.Namespace) -> tuple[Kind, ...]:
    flags: dict[Kind, Any] = {
        "text": args.dllm_algorithm,
        "image": args.image_diffusion_worker,
        "video": args.video_generation_worker,
    }
    return tuple(kind for kind in KINDS if flags[kind])


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
