"""`diffusion-serve up`: serve from the command line, with the option names of Dynamo's launch scripts.

The options become a deployments file, which is printed, so that it can be kept and edited, and then served (see
`server.py`), if this machine has what it asks for.
"""

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from serve_app.check import check_config
from serve_app.files import read, read_yaml
from serve_app.render import dump, merged
from serve_app.server import application_name, serve_until_told, starts_ray
from serve_app.tasks import KINDS

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


# By group: an option's spellings, the section and name of the setting that it gives, its placeholder ("" for a flag; N
# and PORT are whole numbers), its help.
OPTIONS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "what to serve: only the kinds named; what the file says where none is": (
        ("--dllm-algorithm", "kind.text", "NAME", "text by this algorithm [DLLM_ALGORITHM]"),
        ("--image-diffusion-worker", "kind.image", "", "images"),
        ("--video-generation-worker", "kind.video", "", "videos"),
    ),
    "the model; with one kind only": (
        ("--model-path", "own.model", "MODEL", "hub id or folder"),
        ("--served-model-name", "own.served_name", "NAME", "what callers ask for"),
        ("--revision", "own.revision", "REVISION", "commit, tag or branch of the hub id"),
        ("--trust-remote-code", "own.trust_remote_code", "", "run the checkpoint's own code"),
    ),
    "each model": (
        ("--tp-size --tp", "tp_size", "N", "GPUs a replica, tensor parallel [TP_SIZE]"),
        ("--dllm-algorithm-config", "dllm_algorithm_config", "FILE", "its parameters [DLLM_ALGORITHM_CONFIG]"),
        ("--num-frames", "video.num_frames", "N", "default of videos"),
        ("--height", "defaults.height", "N", "default of images and videos"),
        ("--width", "defaults.width", "N", "default of images and videos"),
        ("--num-inference-steps", "defaults.num_inference_steps", "N", "default of images and videos"),
    ),
    "media and HTTP": (
        ("--media-output-fs-url --fs-url", "media.root", "URL", "file:///folder or s3://bucket/prefix"),
        ("--media-output-http-url --http-url", "media.public_url", "URL", "base of the URLs in answers"),
        ("--http-port", "http.port", "PORT", "[DYN_HTTP_PORT, HTTP_PORT]"),
        ("--http-host", "http.host", "ADDRESS", "127.0.0.1 unless told; 0.0.0.0 lets others in"),
        ("--keys-env", "access.keys_env", "NAME", "variable that holds the API keys: name:key,name:key"),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `diffusion-serve up`; those left out are what the deployments file or the profile says."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="a deployments file to lay these options over")
    parser.add_argument("--print", action="store_true", help="print the deployments file and stop")
    parser.add_argument("--wan-size", choices=sorted(WAN), help="Wan 1.3B on one GPU or 14B on two")
    parser.add_argument("--dashboard", action="store_true", help="Ray's dashboard too, at http://127.0.0.1:8265")
    for title, options in OPTIONS.items():
        group = parser.add_argument_group(title)
        for spellings, dest, metavar, meaning in options:
            kind: dict[str, Any] = {"metavar": metavar, "type": int if metavar in ("N", "PORT") else str}
            if not metavar:
                kind = {"action": "store_const", "const": True}
            group.add_argument(*spellings.split(), dest=dest, help=meaning, **kind)


def run(args: argparse.Namespace) -> int:
    """Serves the deployments file, printed where options changed it, until a signal. Returns 1 if that cannot be."""
    try:
        written = "" if args.config is None else read(args.config)
        config = deployments_file(args, os.environ)
    except ValueError as error:
        print(f"diffusion-serve up: {error}", file=sys.stderr)
        return 1
    report = check_config(config, written, here=starts_ray() and not args.print)
    if not report.tell():
        return 1
    if any(problem.level == "missing" for problem in report.problems):
        print("diffusion-serve up: this machine lacks what the warnings name; nothing was started", file=sys.stderr)
        return 1
    if args.print or config != yaml.safe_load(written):
        print(dump(config), end="", flush=True)
    if args.print:
        return 0
    print(report.summary, file=sys.stderr, flush=True)
    return serve_until_told(config, dashboard=args.dashboard)


# --- options to a deployments file ------------------------------------------------------------------------------------


def deployments_file(args: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, Any]:
    """The deployments file for these options and this environment. Raises ValueError on contradictions."""
    base = BASE if args.config is None else read_yaml(args.config)
    http = _given(args, "http")
    variable = next((name for name in ("DYN_HTTP_PORT", "HTTP_PORT") if environ.get(name)), None)
    if variable and "port" not in http:
        http["port"] = _integer(environ, variable)
    name = application_name(base)
    application: dict[str, Any] = {"name": name, **base["applications"][0]}
    models = _models(args, environ, (application.get("args") or {}).get("models") or {})
    settings: dict[str, Any] = {"media": _given(args, "media"), "access": _given(args, "access"), "models": models}
    if any("gpus" in model for model in models.values() if model is not None):
        settings["profile"] = "gpu"  # who asks for GPUs does not want the demo
    changes = {
        "http_options": http,
        "applications": [{"name": name, "args": {key: value for key, value in settings.items() if value}}],
    }
    return merged([{**base, "applications": [application]}, changes])


def _models(args: argparse.Namespace, environ: Mapping[str, str], written: Mapping[str, Any]) -> dict[str, Any]:
    """What the options say of models, over those `written` in the file: null for what they do not name."""
    named, own = _given(args, "kind"), _given(args, "own")
    chosen = [kind for kind in KINDS if (kind in named if named else written.get(kind, {}) is not None)]
    if own and len(chosen) != 1:
        raise ValueError(
            "--model-path, --served-model-name, --revision and --trust-remote-code need exactly one kind, "
            "such as --image-diffusion-worker"
        )
    models: dict[str, Any] = {}
    for kind in chosen:
        models[kind] = own | (_text(args, environ) if kind == "text" else _media_model(kind, args))
        if args.tp_size:
            models[kind] |= _parallel(args.tp_size)
    if named:
        return dict.fromkeys((*KINDS, *written)) | models
    return {kind: model for kind, model in models.items() if model}


def _text(args: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, Any]:
    text: dict[str, Any] = {}
    if algorithm := _given(args, "kind").get("text") or environ.get("DLLM_ALGORITHM"):
        text["algorithm"] = algorithm
    if path := args.dllm_algorithm_config or environ.get("DLLM_ALGORITHM_CONFIG"):
        text["algorithm_config"] = read_yaml(Path(path))
    if not args.tp_size and environ.get("TP_SIZE"):
        text |= _parallel(_integer(environ, "TP_SIZE"))
    return text


def _media_model(kind: str, args: argparse.Namespace) -> dict[str, Any]:
    is_video = kind == "video"
    model = dict(WAN[args.wan_size]) if is_video and args.wan_size else {}
    if defaults := _given(args, "defaults") | (_given(args, "video") if is_video else {}):
        model["defaults"] = defaults
    return model


def _parallel(gpus: int) -> dict[str, Any]:
    return {"gpus": gpus, "parallel": "tensor"} if gpus > 1 else {"gpus": gpus}


def _integer(environ: Mapping[str, str], variable: str) -> int:
    try:
        return int(environ[variable])
    except ValueError as error:
        raise ValueError(f"the environment's {variable} is not a number: '{environ[variable]}'") from error


def _given(args: argparse.Namespace, section: str) -> dict[str, Any]:
    """The options of one section that were given, by the names of the settings that they set."""
    begin = f"{section}."
    given = {dest: value for dest, value in vars(args).items() if dest.startswith(begin) and value is not None}
    return {dest.removeprefix(begin): value for dest, value in given.items()}
