"""The families of models that this engine serves, a module each, found by a checkpoint's class.

A new module with a subclass of `ImageFamily`, `VideoFamily` or `TextFamily` is all that a new family takes.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import TypeVar

from serve_app.engines.diffusers import loading
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
    name = loading.read_class(source, kind, tuple(by_class))
    family = by_class[name]
    loading.check_release(f"'{source.model}' is a {family.name}", family.since)
    return family, name


def _below(base: type[F]) -> Iterator[type[F]]:
    for family in base.__subclasses__():
        yield family
        yield from _below(family)
