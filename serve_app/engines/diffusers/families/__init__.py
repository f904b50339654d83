"""The families of models that this engine serves, a module each, found by a checkpoint's class.

A new module with a subclass of `ImageFamily`, `VideoFamily` or `TextFamily` is all that a new family takes.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any, TypeVar

import diffusers
import transformers
from packaging.version import Version

from serve_app.engines.diffusers.families.base import Family
from serve_app.engines.diffusers.loading import Source
from serve_app.tasks import Kind

F = TypeVar("F", bound=Family)


def families_of(base: type[F]) -> list[type[F]]:
    """All families that are of `base`, in the order of their modules' names."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted((family for family in _below(base) if hasattr(family, "name")), key=lambda family: family.__module__)


def find_family(base: type[F], source: Source, kind: Kind) -> tuple[type[F], str]:
    """The family that the checkpoint's class names, and that class; ValueError where there is none, or not yet."""
    by_class = {name: family for family in families_of(base) for name in family.classes}
    name = _read_class(source, kind)
    if name not in by_class:
        raise ValueError(f"'{source.model}' is a {name}, no {kind} model this engine knows: {', '.join(by_class)}")
    family = by_class[name]
    check_release(f"'{source.model}' is a {family.name}", family.since)
    return family, name


def check_release(what: str, since: str, installed: str = diffusers.__version__) -> None:
    """ValueError where `what` needs a later release of diffusers than the installed one."""
    if Version(installed) < Version(since):
        raise ValueError(f"{what}, which needs diffusers {since} or later; {installed} is installed")


def _read_class(source: Source, kind: Kind) -> str:
    """The pipeline or, of a text model, the architecture that the checkpoint names; ValueError where it names none."""
    pipeline: Any = diffusers.DiffusionPipeline
    try:
        if kind == "text":
            config, _ = transformers.PreTrainedConfig.get_config_dict(source.model, **source.hub_arguments)
            name = next(iter(config.get("architectures") or ()), None)
        else:
            name = pipeline.load_config(source.model, **source.hub_arguments).get("_class_name")
    except (OSError, ValueError) as error:
        raise ValueError(f"'{source.model}' is no {kind} model: {error}") from error
    if name is None:
        raise ValueError(f"'{source.model}' is no {kind} model: it has no configuration that names its class")
    return name


def _below(base: type[F]) -> Iterator[type[F]]:
    for family in base.__subclasses__():
        yield family
        yield from _below(family)
