"""`diffusion-serve settings`: every key of `args` with its default and its meaning, as YAML that can be pasted.

Read from the pydantic models, so that there is no second list to keep. Knows their shape, not what the keys mean.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from serve_app.model_settings import models_in
from serve_app.settings import Settings, resolve

HEAD = """\
# Every key of `args` in a deployments file, with its default. Where two values stand, separated by |, the first is for
# profile demo and the second for profile gpu. Any further model has the keys of its kind, and `kind` itself.
"""


def add_arguments(_: argparse.ArgumentParser) -> None:
    """`diffusion-serve settings` has no options."""


def run(_: argparse.Namespace) -> int:
    """Prints the reference."""
    sys.stdout.write(reference())
    return 0


def reference() -> str:
    """The whole text."""
    written = Settings()
    # folders of this machine are not defaults
    plain = {"profile": written.profile, "home": written.home, "media": written.media}
    demo, gpu = (resolve(written, profile).model_copy(update=plain) for profile in ("demo", "gpu"))
    return HEAD + "".join(f"{line}\n" for line in _lines(demo, gpu, ""))


def _lines(demo: BaseModel, gpu: BaseModel, indent: str) -> Iterator[str]:
    """The keys of one model, with its values under either profile."""
    for name, field in type(demo).model_fields.items():
        if name == "kind":
            continue  # which the name of the model says
        first, second = getattr(demo, name), getattr(gpu, name)
        if isinstance(first, BaseModel):
            yield from _section(name, type(first).__doc__, indent)
            yield from _lines(first, second, f"{indent}  ")
        elif name == "models":
            yield from _section(name, field.description, indent)
            for key, value in first.items():
                yield from _section(key, type(value).__doc__, f"{indent}  ")
                yield from _lines(value, second[key], f"{indent}    ")
        else:
            values = _yaml(first) if first == second else f"{_yaml(first)} | {_yaml(second)}"
            yield f"{indent}{name}: {values}{_meaning(field)}"
            for model in models_in(field.annotation):
                yield from _keys(model, f"{indent}#   ")


def _keys(model: type[BaseModel], indent: str) -> Iterator[str]:
    """The keys of one value of a mapping, commented out: the operator chooses the names."""
    for name, field in model.model_fields.items():
        default = "" if field.is_required() else f" {_yaml(field.default)}"
        yield f"{indent}{name}:{default}{_meaning(field)}"


def _section(name: str, description: str | None, indent: str) -> Iterator[str]:
    first_sentence = (description or "").strip().split("\n")[0]
    yield f"{indent}{name}:" + (f"  # {first_sentence}" if first_sentence else "")


def _yaml(value: Any) -> str:
    plain = to_jsonable_python(value, exclude_none=True)
    text = yaml.safe_dump(plain, default_flow_style=True, width=10**6).strip()
    return text.removesuffix("...").strip()


def _meaning(field: FieldInfo) -> str:
    """The field's docstring and its allowed words."""
    words = [str(word) for word in get_args(field.annotation)] if get_origin(field.annotation) is Literal else []
    told = "; ".join(part for part in (", ".join(words), field.description) if part)
    return f"  # {told}" if told else ""
