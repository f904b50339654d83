"""Strict validation of a Serve deployments file: every problem in it, each with the path of its key.

Serve accepts misspelt keys in most sections silently, so its own models (`ray.serve.schema`) judge the file here with
unknown keys forbidden, and our settings judge `args`. Starts nothing and needs no
cluster. With `here` it also checks what this machine lacks (`machine.py`): a file for a cluster is often checked on a
laptop, so GPUs and SGLang that are missing are warnings, which only a start on this machine takes as errors.
"""

import argparse
import difflib
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ValidationError, create_model
from ray.runtime_env import RuntimeEnv
from ray.serve.config import (
    AutoscalingConfig,
    AutoscalingPolicy,
    DeploymentActorConfig,
    GangSchedulingConfig,
    RequestRouterConfig,
)
from ray.serve.schema import ServeDeploySchema

from serve_app import machine
from serve_app.engines import parallel, presets
from serve_app.model_settings import AnyModel, models_in
from serve_app.settings import RESERVED, Settings, resolve
from serve_app.tasks import KINDS

BUILDER = "serve_app.app:build"
EVERYWHERE = "0.0.0.0"  # noqa: S104
RUNTIME_ENV: dict[str, Any] = {key: (Any, None) for key in RuntimeEnv.known_fields if not key.startswith("_")}
# Serve declares these as plain mappings and reads them later as the models named here.
MAPPINGS: dict[str, type[BaseModel]] = {
    "autoscaling_config": AutoscalingConfig,
    "autoscaling_policy": AutoscalingPolicy,
    "gang_scheduling_config": GangSchedulingConfig,
    "deployment_actors": DeploymentActorConfig,
    "request_router_config": RequestRouterConfig,
    "runtime_env": create_model("RuntimeEnv", **RUNTIME_ENV),
}


@dataclass(frozen=True)
class Problem:
    """One finding: `path` is the key's, such as `applications[0].args.image.gpus`.

    An `error` is wrong on every machine, what is `missing` on this one.
    """

    path: str
    message: str
    level: Literal["error", "warning", "missing"] = "error"

    def __str__(self) -> str:
        prefix = "" if self.level == "error" else "warning: "
        return f"{prefix}{self.path}: {self.message}" if self.path else f"{prefix}{self.message}"


@dataclass(frozen=True)
class Report:
    """All problems, in the order of the file's sections, and one line on what the file would serve."""

    problems: tuple[Problem, ...]
    summary: str = ""

    @property
    def ok(self) -> bool:
        return not any(problem.level == "error" for problem in self.problems)

    def tell(self) -> bool:
        """Prints the problems for people; whether the file is right."""
        for problem in self.problems:
            print(problem, file=sys.stderr)
        return self.ok

    @property
    def can_start(self) -> bool:
        """Whether this machine has what the file asks for; known where it was checked for `here`."""
        return self.ok and not any(problem.level == "missing" for problem in self.problems)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `diffusion-serve check`."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the file, such as deployments.yaml")
    parser.add_argument(
        "--elsewhere", action="store_true", help="it is served on another machine: leave out this one's folders, keys"
    )


def run(args: argparse.Namespace) -> int:
    """`diffusion-serve check`: prints the problems, or in one line what the file would serve."""
    report = check_file(args.config, here=not args.elsewhere)
    if not report.tell():
        return 1
    print(f"{args.config}: {report.summary}")
    return 0


def check_file(path: Path, *, here: bool = False) -> Report:
    """The report on a deployments file; a file that cannot be read or parsed is a problem too. `here`: see below."""
    try:
        text = path.read_text(encoding="utf-8")
        config = yaml.safe_load(text)
    except OSError as error:
        return Report((Problem("", f"cannot read {path}: {error.strerror}"),))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return Report((Problem("", f"{path} is not YAML: {error}"),))
    return check_config(config, text, here=here)


def check_config(config: object, written: str = "", *, here: bool = False) -> Report:
    """The report on a parsed deployments file; with `here`, also on what this machine lacks to serve it.

    In the text as `written` it finds keys that stand twice in one mapping: the YAML parser silently keeps the last.
    """
    if not isinstance(config, dict):
        return Report((Problem("", "a deployments file is a mapping with the key 'applications'"),))
    this = machine.Machine.this() if here else None
    http = config.get("http_options")
    http = {"host": EVERYWHERE, "port": 8000} | (http if isinstance(http, dict) else {})
    problems = [*_repeated(yaml.compose(written), ""), *_invalid(ServeDeploySchema, config, "")]
    problems += _in_mappings(config, "")
    summaries: list[str] = []
    for i, application in enumerate(_items(config.get("applications"))):
        if isinstance(application, dict):
            found, summary = _check_application(application, f"applications[{i}]", http, this)
            problems += found
            summaries.append(summary)
    report = Report(tuple(dict.fromkeys(problems)), "; ".join(summaries))
    return report if report.ok else Report(report.problems)


# --- keys and values ------------------------------------------------------------------------------------------------


def _invalid(model: type[BaseModel], value: object, path: str) -> Iterator[Problem]:
    """What the model says of the value: unknown keys at any depth, and values that its validators refuse."""
    if value is None:
        return
    try:
        model.model_validate(value, extra="forbid")
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            loc, message = detail["loc"], detail["msg"].removeprefix("Value error, ")
            if detail["type"] == "extra_forbidden":
                message = f"unknown key; {_nearest_field(loc[-1], _models_at(model, loc))}"
            where = _locate(path, loc, value, missing=detail["type"] == "missing")
            yield Problem(where, message[:1].lower() + message[1:])
    except (TypeError, ValueError, AttributeError, ImportError) as error:  # some of Serve's validators raise these
        yield Problem(path, str(error))


def _in_mappings(value: object, path: str) -> Iterator[Problem]:
    """Problems in the places that Serve declares as plain mappings and reads later, at any depth."""
    for place, item in _places(value, path):
        if not isinstance(item, dict):
            continue
        for key, inner in item.items():
            where = _join(place, key)
            if isinstance(key, str) and key in MAPPINGS:
                for nested_place, nested in _places(inner, where):
                    yield from _invalid(MAPPINGS[key], nested, nested_place)
            elif key != "args":
                yield from _in_mappings(inner, where)


def _repeated(node: yaml.Node | None, path: str) -> Iterator[Problem]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, inner in node.value:
            where = _join(path, key.value)
            if key.value in seen:
                yield Problem(where, f"given twice (line {key.start_mark.line + 1})")
            seen.add(key.value)
            yield from _repeated(inner, where)
    elif isinstance(node, yaml.SequenceNode):
        for i, inner in enumerate(node.value):
            yield from _repeated(inner, f"{path}[{i}]")


def _nearest(key: object, known: Collection[str]) -> str:
    close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"


def _nearest_field(key: object, models: Sequence[type[BaseModel]]) -> str:
    """As `_nearest`, but also one level down: `num_gpus` of a deployment belongs in its `ray_actor_options`."""
    fields = {name: field for model in models for name, field in model.model_fields.items()}
    here = _nearest(key, fields)
    below = {
        inner: f"{name}.{inner}"
        for name, field in fields.items()
        for nested in models_in(field.annotation)
        for inner in nested.model_fields
        if inner not in fields
    }
    close = difflib.get_close_matches(str(key), [*fields, *below], n=1, cutoff=0.8)
    return f"did you mean '{below[close[0]]}'?" if close and close[0] in below else here


def _models_at(model: type[BaseModel], loc: Sequence[int | str]) -> list[type[BaseModel]]:
    """The models that could hold the last key of a pydantic location: several for a union."""
    found = [model]
    for part in loc[:-1]:
        fields = [model.model_fields[part] for model in found if isinstance(part, str) and part in model.model_fields]
        of_kind = [
            model for model in found if "kind" in model.model_fields and model.model_fields["kind"].default == part
        ]
        found = [nested for field in fields for nested in models_in(field.annotation)] or of_kind or found
    return found


def _places(value: object, path: str) -> Iterator[tuple[str, object]]:
    """`value` itself, or each item of it where it is a list, with its path."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield f"{path}[{i}]", item
    else:
        yield path, value


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _locate(path: str, loc: tuple[int | str, ...], value: object, *, missing: bool = False) -> str:
    """pydantic's location as a path, without the names of union members that it puts in between.

    The last key is there, unless it is `missing`.
    """
    for i, part in enumerate(loc):
        if isinstance(part, int):
            if not isinstance(value, list) or part >= len(value):
                break  # a tuple that is too short: the tuple is what is wrong
            path, value = f"{path}[{part}]", value[part]
        elif part == "[key]":
            break  # the key itself is what is wrong
        elif isinstance(value, dict) and (part in value or (missing and i == len(loc) - 1)):
            path = _join(path, part)
            value = value.get(part)
    return path


# --- our application ------------------------------------------------------------------------------------------------


def _check_application(
    application: dict[str, Any], path: str, http: dict[str, Any], this: machine.Machine | None
) -> tuple[list[Problem], str]:
    """What is wrong with one application, and its part of the summary."""
    name, target = application.get("name", "default"), str(application.get("import_path", ""))
    if target.replace(":", ".") != BUILDER.replace(":", "."):
        strange = Problem(f"{path}.import_path", "not this project's application: args not checked", "warning")
        if target.split(".")[0].split(":")[0] == "serve_app":
            strange = Problem(f"{path}.import_path", f"no such builder; did you mean '{BUILDER}'?")
        return [strange], f"application '{name}': {target}"
    args, where = application.get("args") or {}, f"{path}.args"
    found = list(_invalid(Settings, args, where))
    settings = _readable(args, where, {problem.path for problem in found})
    found += _check_deployments(application, settings, path)
    found += _check_settings(settings, where, this)
    # Serve listens on every address by default
    if not (settings.access.keys_env or settings.access.keys_file) and http["host"] in (EVERYWHERE, "::"):
        open_to = f"http_options.host {http['host']} lets in whoever reaches this machine"
        found.append(Problem(f"{where}.access", f"no API keys, while {open_to}: set keys_env", "warning"))
    address = f"{http['host']}:{http['port']}{application.get('route_prefix', '/')}"
    return found, f"application '{name}' on {address}: {_summarize(settings, this)}"


def _readable(args: object, path: str, bad: set[str]) -> Settings:
    """The settings without their wrong keys, so that the rest is checked in the same run."""
    while path not in bad:
        rest = _without(args, path, bad)
        # leaving out one key can make another wrong: without the misspelt 'mx: 5', min 3 is above the default max
        worse = {problem.path for problem in _invalid(Settings, rest, path)}
        if not worse:
            return Settings.model_validate(rest)
        if worse <= bad:
            break
        bad = bad | worse
    return Settings()


def _without(value: object, path: str, bad: Collection[str]) -> object:
    """`value` without what lies at the paths in `bad`."""
    if isinstance(value, dict):
        kept = {key: (inner, _join(path, key)) for key, inner in value.items() if _join(path, key) not in bad}
        return {key: _without(inner, where, bad) for key, (inner, where) in kept.items()}
    if isinstance(value, list):
        kept = [(inner, f"{path}[{i}]") for i, inner in enumerate(value) if f"{path}[{i}]" not in bad]
        return [_without(inner, where, bad) for inner, where in kept]
    return value


def _check_deployments(application: dict[str, Any], settings: Settings, path: str) -> Iterator[Problem]:
    """Names under `deployments` that are no deployment of the application, and GPUs that no replica can have."""
    known = (*RESERVED, *KINDS, *settings.served)
    for i, deployment in enumerate(_items(application.get("deployments"))):
        if not isinstance(deployment, dict):
            continue
        where, name, options = f"{path}.deployments[{i}]", deployment.get("name"), deployment.get("ray_actor_options")
        if name is not None and name not in known:
            yield Problem(f"{where}.name", f"no deployment '{name}'; {_nearest(name, known)}")
        gpus = options.get("num_gpus") if isinstance(options, dict) else None
        if isinstance(gpus, float) and gpus > 1 and not gpus.is_integer():
            message = f"{gpus} GPUs: a fraction must be below 1, and more than one GPU a whole number"
            yield Problem(f"{where}.ray_actor_options.num_gpus", message)


def _profiles(settings: Settings) -> tuple[Literal["demo", "gpu"], ...]:
    return ("demo", "gpu") if settings.profile == "auto" else (settings.profile,)


def _check_settings(settings: Settings, path: str, this: machine.Machine | None) -> Iterator[Problem]:
    for profile in _profiles(settings):
        try:
            resolved = resolve(settings, profile)
        except ValidationError as error:  # the user's keys and the profile's contradict each other
            for detail in error.errors(include_url=False):
                where = _locate(path, detail["loc"], settings.model_dump(), missing=True)
                yield Problem(where, f"with profile {profile}: {detail['msg'].removeprefix('Value error, ')}")
            continue
        if this is not None:
            yield from (Problem(_join(path, key), message) for key, message in machine.look(resolved))
            if this.choose_profile(settings.profile) == profile:
                missing = this.find_missing(resolved)
                yield from (Problem(_join(path, key), message, "missing") for key, message in missing)
        for name, model in resolved.served.items():
            yield from _check_engine(model, f"{path}.models.{name}")
            if settings.profile == "demo" and model.gpus:
                message = f"profile demo runs on the CPU, yet each replica reserves {model.gpus:g} GPUs"
                yield Problem(f"{path}.models.{name}.gpus", message, "warning")


def _check_engine(model: AnyModel, path: str) -> Iterator[Problem]:
    """GPUs, parallelism and presets that the engine cannot work with, as itself would say."""
    engine = model.engine if model.engine != "auto" else "sglang" if model.gpus else "diffusers"
    try:
        parallel.check(model, engine)
    except parallel.Impossible as impossible:
        yield Problem(f"{path}.{impossible.key}", impossible.why)
    yield from (Problem(f"{path}.{key}", why) for key, why in presets.find_problems(model, engine))


def _summarize(settings: Settings, this: machine.Machine | None) -> str:
    """What would be served, under each profile that may be chosen; empty where that contradicts itself."""
    profiles = (this.choose_profile(settings.profile),) if this is not None else _profiles(settings)
    try:
        return " | ".join(f"profile {profile}: {_list_models(resolve(settings, profile))}" for profile in profiles)
    except ValidationError:
        return ""


def _list_models(settings: Settings) -> str:
    served = settings.served.items()
    return ", ".join(f"{name} {model.id}" + (f" on {model.gpus:g} GPU" if model.gpus else "") for name, model in served)
