"""All small checkpoints, by the names that the tests beside this module give them."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import tests.engines.diffusers.families as package
from serve_app.engines.diffusers import families
from serve_app.engines.diffusers.families.base import Family

MODULES = [module.name for module in pkgutil.iter_modules(families.__path__) if module.name != "base"]


def checkpoints_of(base: type[Family]) -> dict[str, Any]:
    """Those of the families that are of `base`; a family without a test beside it is an ImportError."""
    found: dict[str, Any] = {}
    for name in MODULES:
        family = importlib.import_module(f"{families.__name__}.{name}")
        if any(
            isinstance(each, type) and issubclass(each, base) and "name" in vars(each) for each in vars(family).values()
        ):
            found |= importlib.import_module(f"{package.__name__}.test_{name}").CHECKPOINTS
    return found
