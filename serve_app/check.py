"""Strict validation of a Serve deployments file: every problem in it, each with the path of its key.

Serve accepts misspelt keys in most sections silently, so its own models (`ray.serve.schema`) judge the file here with
unknown keys forbidden, and our settings judge `args`. Starts nothing and needs no
cluster. With `here` it also checks what this machine lacks (`machine.py`): a file for a cluster is often checked on a
laptop, so GPUs and SGLang that are missing are warnings, which only a start on this machine takes as errors.
"""

from __future__ import annotations

import difflib
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

    @property
    def can_start(self) -> bool:
        """Whether this machine has what the file asks for; known where it was checked for `here`."""
        return self.ok and not any(problem.level == "missing" for problem in self.problems)


def check_file(path: Path, *, here: bool = False) -> Report:
    """The report on a deployments file; a file that cannot be read or parsed is a problem too. `here`: see below."""
    try:
        text = path.read_text(encoding="utf-8")
        config = yaml.safe_load(text)
    except OSError as error:
        return Report((Problem("", f"cannot read {path}: {error.strerror}"),))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return Report((Problem("", f"{path} is not YAML: {error}"),))
    report = check_config(config, here=here)
    return Report((*repeated_keys(text), *report.problems), report.summary)


def repeated_keys(text: str) -> tuple[Problem, ...]:
    """Keys that stand twice in one mapping: the YAML parser silently keeps the last."""
    return tuple(_repeated(yaml.compose(text), ""))


def check_config(config: object, *, here: bool = False) -> Report:
    """The report on a parsed deployments file; with `here`, also on what this machine lacks to serve it."""
    if not isinstance(config, dict):
        return Report((Problem("", "a deployments file is a mapping with the key 'applications'"),))
    this = machine.Machine.this() if here else None
    problems = [*_invalid(ServeDeploySchema, config, ""), *_in_mappings(config, "")]
    summaries: list[str] = []
    for i, application in enumerate(_items(config.get("applications"))):
        if isinstance(application, dict):
            path = f"applications[{i}]"
            problems += _check_application(application, path, this)
            problems += _open_to_all(application, config, f"{path}.args.access")
            summaries.append(_summary(application, config, this))
    unique = tuple(dict.fromkeys(problems))
    report = Report(unique)
    return Report(unique, "; ".join(summaries)) if report.ok else report


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


def _open_to_all(application: dict[str, Any], config: dict[Any, Any], path: str) -> Iterator[Problem]:
    """Warns if anyone who reaches this machine may use it. Serve listens on every address by default."""
    http = config.get("http_options")
    host = http.get("host", EVERYWHERE) if isinstance(http, dict) else EVERYWHERE
    args = application.get("args")
    access = args.get("access") if isinstance(args, dict) else None
    has_keys = isinstance(access, dict) and (access.get("keys_env") or access.get("keys_file"))
    if _is_ours(str(application.get("import_path", ""))) and not has_keys and host in (EVERYWHERE, "::"):
        message = f"no API keys, while http_options.host {host} lets in whoever reaches this machine: set keys_env"
        yield Problem(path, message, "warning")


def _check_application(application: dict[str, Any], path: str, this: machine.Machine | None) -> Iterator[Problem]:
    yield from _deployment_gpus(application, path)
    target = str(application.get("import_path", ""))
    if not _is_ours(target):
        if target.split(".")[0].split(":")[0] == "serve_app":
            yield Problem(f"{path}.import_path", f"no such builder; did you mean '{BUILDER}'?")
        else:
            yield Problem(f"{path}.import_path", "not this project's application: args not checked", "warning")
        return
    args, where = application.get("args") or {}, f"{path}.args"
    found = list(_invalid(Settings, args, where))
    yield from found
    settings = _readable(args, where, {problem.path for problem in found})
    yield from _check_deployments(application, settings, path)
    yield from _check_settings(settings, where, this)


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
    """Names under `deployments` that are no deployment of the application."""
    known = (*RESERVED, *KINDS, *settings.served)
    for i, deployment in enumerate(_items(application.get("deployments"))):
        name = deployment.get("name") if isinstance(deployment, dict) else None
        if name is not None and name not in known:
            yield Problem(f"{path}.deployments[{i}].name", f"no deployment '{name}'; {_nearest(name, known)}")


def _deployment_gpus(application: dict[str, Any], path: str) -> Iterator[Problem]:
    for i, deployment in enumerate(_items(application.get("deployments"))):
        options = deployment.get("ray_actor_options") if isinstance(deployment, dict) else None
        gpus = options.get("num_gpus") if isinstance(options, dict) else None
        if isinstance(gpus, float) and gpus > 1 and not gpus.is_integer():
            where = f"{path}.deployments[{i}].ray_actor_options.num_gpus"
            yield Problem(where, f"{gpus} GPUs: a fraction must be below 1, and more than one GPU a whole number")


def _is_ours(import_path: str) -> bool:
    return import_path.replace(":", ".") == BUILDER.replace(":", ".")


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


# --- the summary ----------------------------------------------------------------------------------------------------


def _summary(application: dict[str, Any], config: dict[str, Any], this: machine.Machine | None) -> str:
    name = application.get("name", "default")
    if not _is_ours(str(application.get("import_path", ""))):
        return f"application '{name}': {application.get('import_path')}"
    try:
        settings = Settings.model_validate(application.get("args") or {})
        profiles = (this.choose_profile(settings.profile),) if this is not None else _profiles(settings)
        served = " | ".join(_served(settings, profile) for profile in profiles)
    except ValidationError:
        return ""
    http = config.get("http_options") or {}
    where = f"{http.get('host', '0.0.0.0')}:{http.get('port', 8000)}{application.get('route_prefix', '/')}"  # noqa: S104
    return f"application '{name}' on {where}: {served}"


def _served(settings: Settings, profile: Literal["demo", "gpu"]) -> str:
    models = [
        f"{name} {model.id}" + (f" on {model.gpus:g} GPU" if model.gpus else "")
        for name, model in resolve(settings, profile).served.items()
    ]
    return f"profile {profile}: " + ", ".join(models)
