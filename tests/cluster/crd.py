"""Strict validation against a CustomResourceDefinition: as with the API server's `strict`, unknown keys fail."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml


def problems(manifest: dict[str, Any], crd: Path) -> list[str]:
    """What the CRD's schema of the manifest's version says against it, each with its path."""
    validator = _validator(crd, manifest["apiVersion"].split("/")[1])
    # metadata is the API server's own, not described in a CRD
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(manifest | {"metadata": {}})]


@cache
def _validator(crd: Path, version: str) -> jsonschema.Draft202012Validator:
    # libyaml's loader: the file has tens of thousands of lines
    definition = yaml.load(crd.read_bytes(), Loader=yaml.CSafeLoader)
    schema = next(v["schema"]["openAPIV3Schema"] for v in definition["spec"]["versions"] if v["name"] == version)
    return jsonschema.Draft202012Validator(strict(schema) | {"additionalProperties": False})


def strict(schema: Any) -> Any:
    """A structural schema as JSON schema that refuses unknown keys.

    `x-kubernetes-preserve-unknown-fields` keeps an object open, `x-kubernetes-int-or-string` takes both, `nullable`
    takes null, and formats such as int32 carry no rule here.
    """
    if not isinstance(schema, dict):
        return schema
    made = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-") and key != "format"}
    for key in ("properties",):
        if key in made:
            made[key] = {name: strict(inner) for name, inner in made[key].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = strict(made[key])
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if made.get("nullable"):
        made["type"] = [made["type"], "null"]
    closed = "properties" in made and "additionalProperties" not in made
    if closed and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    return made
