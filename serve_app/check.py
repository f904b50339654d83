"""Strict validation of a Serve deployments file: every problem in it, each with the path of its key.

Serve accepts misspelt keys in most sections silently, so its own models (`ray.serve.schema`) judge the file here with
unknown keys forbidden, and our settings judge `args`. Starts nothing and needs no
cluster. With `here` it also checks what this machine lacks (`machine.py`): a file for a cluster is often checked on a
laptop, so GPUs and SGLang that are missing are warnings, which only a start on this machine takes as errors.
"""

import argparse
import copy
import difflib
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, create_model
from ray.runtime_env import RuntimeEnv
from ray.serve._private.utils import validate_route_prefix
from ray.serve.config import (
    AutoscalingConfig,
    AutoscalingPolicy,
    DeploymentActorConfig,
    GangSchedulingConfig,
    RequestRouterConfig,
)
from ray.serve.schema import HTTPOptionsSchema, ServeDeploySchema

from serve_app import files, machine
from serve_app.engines import parallel, presets
from serve_app.model_settings import AnyModel, Strict, models_in
from serve_app.settings import RESERVED, Settings, resolve
from serve_app.tasks import KINDS

BUILDER = "serve_app.app:build"
EVERYWHERE = "0.0.0.0"  # noqa: S104
RUNTIME_ENV: dict[str, Any] = {key: (Any, None) for key in RuntimeEnv.known_fields if not key.startswith("_")}
Port = Annotated[int, Field(ge=1, le=65535)]
# Serve declares these as plain mappings and reads them later as the models named here; of a port it takes any number.
MAPPINGS: dict[str, type[BaseModel]] = {
    "autoscaling_config": AutoscalingConfig,
    "autoscaling_policy": AutoscalingPolicy,
    "gang_scheduling_config": GangSchedulingConfig,
    "deployment_actors": DeploymentActorConfig,
    "request_router_config": RequestRouterConfig,
    "http_options": create_model("HTTPOptionsSchema", __base__=HTTPOptionsSchema, port=(Port, 8000)),
    "runtime_env": create_model("RuntimeEnv", **RUNTIME_ENV),
}
Profiles = tuple[Literal["demo", "gpu"], ...]
Place = tuple[int | str, ...]
"""Where a value stands in the file: the keys, and numbers in lists, that lead to it."""


@dataclass(frozen=True)
class Problem:
    """One finding. An `error` is wrong on every machine, what is `missing` on this one."""

    place: Place
    message: str
    level: Literal["error", "warning", "missing"] = "error"

    def __str__(self) -> str:
        """For people, with a path such as `applications[0].args.models.image.gpus`."""
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.place)
        told = f"{path.removeprefix('.')}: {self.message}" if path else self.message
        return told if self.level == "error" else f"warning: {told}"


@dataclass(frozen=True)
class Report:
    """All problems, in the order of the file's sections, and one line on what the file would serve if it is right."""

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `diffusion-serve check`."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the file, such as deployments.yaml")
    parser.add_argument(
        "--elsewhere", action="store_true", help="it is served on another machine: leave out this one's folders, keys"
    )


def run(args: argparse.Namespace) -> int:
    """`diffusion-serve check`: prints the problems, or in one line what the file would serve."""
    report = check_file(args.config, here=not args.elsewhere)
    if report.tell():
        print(f"{args.config}: {report.summary}")
    return 0 if report.ok else 1


def check_file(path: Path, *, here: bool = False) -> Report:
    """The report on a deployments file; a file that cannot be read or parsed is a problem too. `here`: see below."""
    try:
        text = files.read(path)
        config = files.parse(text, path)
    except files.FileProblem as error:
        return Report((Problem((), str(error)),))
    return check_config(config, text, here=here)


def check_config(config: object, written: str = "", *, here: bool = False) -> Report:
    """The report on a parsed deployments file; with `here`, also on what this machine lacks to serve it.

    In the text as `written` it finds keys that stand twice in one mapping: the YAML parser silently keeps the last.
    """
    if not isinstance(config, dict):
        return Report((Problem((), "a deployments file is a mapping with the key 'applications'"),))
    this = machine.Machine.this() if here else None
    http = config.get("http_options")
    http = {"host": EVERYWHERE, "port": 8000} | (http if isinstance(http, dict) else {})
    problems = [*_repeated(yaml.compose(written)), *_invalid(ServeDeploySchema, config), *_in_mappings(config)]
    summaries: list[str] = []
    for i, application in _mappings(config.get("applications")):
        place = ("applications", i)
        problems += _check_prefix(application.get("route_prefix"), (*place, "route_prefix"))
        found, summary = _check_application(application, place, http, this)
        problems += found
        summaries.append(summary)
    return Report(tuple(dict.fromkeys(problems)), "; ".join(summaries))


# --- keys and values ------------------------------------------------------------------------------------------------


def _invalid(model: type[BaseModel], value: object, place: Place = ()) -> Iterator[Problem]:
    """What the model says of the value: unknown keys at any depth, and values that its validators refuse."""
    if value is None:
        return
    try:
        # our own say themselves where they take any key
        model.model_validate(value, extra=None if issubclass(model, Strict) else "forbid")
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            loc, message = detail["loc"], detail["msg"].removeprefix("Value error, ")
            if detail["type"] == "extra_forbidden":
                message = f"unknown key; {_nearest_field(loc[-1], _models_at(model, loc))}"
            where = (*place, *_locate(loc, value, missing=detail["type"] == "missing"))
            yield Problem(where, message[:1].lower() + message[1:])
    except (TypeError, ValueError, AttributeError, ImportError) as error:  # some of Serve's validators raise these
        yield Problem(place, str(error))


def _in_mappings(value: object, place: Place = (), model: type[BaseModel] | None = None) -> Iterator[Problem]:
    """Problems in the places that Serve declares as plain mappings and reads later, by `model`, at any depth."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from _in_mappings(item, (*place, i), model)
    elif model is not None:
        yield from _invalid(model, value, place)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key != "args":
                yield from _in_mappings(inner, (*place, key), MAPPINGS.get(key))


def _repeated(node: yaml.Node | None, place: Place = ()) -> Iterator[Problem]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, inner in node.value:
            where = (*place, key.value)
            if key.value in seen:
                yield Problem(where, f"given twice (line {key.start_mark.line + 1})")
            seen.add(key.value)
            yield from _repeated(inner, where)
    elif isinstance(node, yaml.SequenceNode):
        for i, inner in enumerate(node.value):
            yield from _repeated(inner, (*place, i))


def _nearest(key: object, known: Collection[str]) -> str:
    close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(sorted(known))}"


def _nearest_field(key: object, models: Sequence[type[BaseModel]]) -> str:
    """As `_nearest`, but also one level down: `num_gpus` of a deployment belongs in its `ray_actor_options`."""
    fields = {name: field for model in models for name, field in model.model_fields.items()}
    paths = {
        inner: f"{name}.{inner}"
        for name, field in fields.items()
        for nested in models_in(field.annotation)
        for inner in nested.model_fields
    } | {name: name for name in fields}
    close = difflib.get_close_matches(str(key), paths, n=1, cutoff=0.8)
    return f"did you mean '{paths[close[0]]}'?" if close else _nearest(key, fields)


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


def _mappings(value: object) -> list[tuple[int, dict[str, Any]]]:
    """The mappings of a list, each with its place."""
    return [(i, item) for i, item in enumerate(value if isinstance(value, list) else []) if isinstance(item, dict)]


def _locate(loc: Place, value: Any, *, missing: bool = False) -> Place:
    """The place of a pydantic location, without the names of union members that it puts in between.

    The last key is there, unless it is `missing`.
    """
    place: list[int | str] = []
    for part in loc:
        try:
            value = value[part]
        except (KeyError, TypeError):
            continue
        except IndexError:
            break  # a tuple that is too short: the tuple is what is wrong
        place.append(part)
    return (*place, loc[-1]) if missing and isinstance(value, dict) else tuple(place)


def _check_prefix(prefix: object, place: Place) -> Iterator[Problem]:
    """What Serve says of a route only once it has started."""
    try:
        validate_route_prefix(prefix if isinstance(prefix, str) else None)
    except ValueError as error:
        yield Problem(place, str(error).removeprefix("Invalid route_prefix "))


# --- our application ------------------------------------------------------------------------------------------------


def _check_application(
    application: dict[str, Any], place: Place, http: dict[str, Any], this: machine.Machine | None
) -> tuple[list[Problem], str]:
    """What is wrong with one application, and its part of the summary."""
    name, target = application.get("name", "default"), str(application.get("import_path", ""))
    if target.replace(":", ".") != BUILDER.replace(":", "."):
        strange = Problem((*place, "import_path"), "not this project's application: args not checked", "warning")
        if target.split(".")[0].split(":")[0] == "serve_app":
            strange = Problem((*place, "import_path"), f"no such builder; did you mean '{BUILDER}'?")
        return [strange], f"application '{name}': {target}"
    args, where = application.get("args") or {}, (*place, "args")
    settings = _readable(args)
    found = [*_invalid(Settings, args, where), *_check_deployments(application, settings, place)]
    profiles: Profiles = ("demo", "gpu") if settings.profile == "auto" else (settings.profile,)
    found += _check_settings(settings, profiles, where, this)
    # Serve listens on every address by default
    if not (settings.access.keys_env or settings.access.keys_file) and http["host"] in (EVERYWHERE, "::"):
        open_to = f"http_options.host {http['host']} lets in whoever reaches this machine"
        found.append(Problem((*where, "access"), f"no API keys, while {open_to}: set keys_env", "warning"))
    address = f"{http['host']}:{http['port']}{application.get('route_prefix', '/')}"
    if not Report(tuple(found)).ok:
        return found, ""
    here = profiles if this is None else (this.choose_profile(settings.profile),)
    models = " | ".join(f"profile {profile}: {_list_models(resolve(settings, profile))}" for profile in here)
    return found, f"application '{name}' on {address}: {models}"


def _readable(args: Any) -> Settings:
    """The settings without their wrong keys, so that the rest is checked in the same run."""
    rest = copy.deepcopy(args)
    # one by one: leaving out a key can make another wrong, as the misspelt 'mx: 5' leaves min 3 above the default max
    while (problem := next(_invalid(Settings, rest), None)) is not None:
        try:
            *way, last = problem.place
            del reduce(getitem, way, rest)[last]
        except (KeyError, ValueError):  # a key that is missing, or nothing that could be left out
            return Settings()
    return Settings.model_validate(rest)


def _check_deployments(application: dict[str, Any], settings: Settings, place: Place) -> Iterator[Problem]:
    """Names under `deployments` that are no deployment of the application, and GPUs that no replica can have."""
    known = (*RESERVED, *KINDS, *settings.served)
    for i, deployment in _mappings(application.get("deployments")):
        where, name = (*place, "deployments", i), deployment.get("name")
        if name is not None and name not in known:
            yield Problem((*where, "name"), f"no deployment '{name}'; {_nearest(name, known)}")
        options = deployment.get("ray_actor_options")
        gpus = options.get("num_gpus") if isinstance(options, dict) else None
        if isinstance(gpus, float) and gpus > 1 and not gpus.is_integer():
            message = f"{gpus} GPUs: a fraction must be below 1, and more than one GPU a whole number"
            yield Problem((*where, "ray_actor_options", "num_gpus"), message)


def _check_settings(
    settings: Settings, profiles: Profiles, place: Place, this: machine.Machine | None
) -> Iterator[Problem]:
    for profile in profiles:
        try:
            resolved = resolve(settings, profile)
        except ValidationError as error:  # the user's keys and the profile's contradict each other
            for detail in error.errors(include_url=False):
                message = f"with profile {profile}: {detail['msg'].removeprefix('Value error, ')}"
                yield Problem((*place, *_locate(detail["loc"], settings.model_dump())), message)
            continue
        if this is not None:
            yield from (Problem((*place, key), message) for key, message in machine.look(resolved))
            if this.choose_profile(settings.profile) == profile:
                missing = this.find_missing(resolved)
                yield from (Problem((*place, key), message, "missing") for key, message in missing)
        for name, model in resolved.served.items():
            yield from _check_engine(model, (*place, "models", name))
            if settings.profile == "demo" and model.gpus:
                message = f"profile demo runs on the CPU, yet each replica reserves {model.gpus:g} GPUs"
                yield Problem((*place, "models", name, "gpus"), message, "warning")


def _check_engine(model: AnyModel, place: Place) -> Iterator[Problem]:
    """GPUs, parallelism and presets that the engine cannot work with, as itself would say."""
    engine = model.engine if model.engine != "auto" else "sglang" if model.gpus else "diffusers"
    try:
        parallel.check(model, engine)
    except parallel.Impossible as impossible:
        yield Problem((*place, impossible.key), impossible.why)
    yield from (Problem((*place, key), why) for key, why in presets.find_problems(model, engine))


def _list_models(settings: Settings) -> str:
    served = settings.served.items()
    return ", ".join(f"{name} {model.id}" + (f" on {model.gpus:g} GPU" if model.gpus else "") for name, model in served)
