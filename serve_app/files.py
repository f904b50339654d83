"""The files that somebody names on a command line: what is wrong with one is told in a sentence."""

from pathlib import Path
from typing import Any

import yaml


class FileProblem(ValueError):
    """Names the file and says why it cannot be used."""


def read(path: Path) -> str:
    """Its text. Raises FileProblem."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileProblem(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileProblem(f"{path} is not YAML: {error}") from error


def read_yaml(path: Path) -> Any:
    """What it holds; an empty one holds an empty mapping. Raises FileProblem."""
    return parse(read(path), path) or {}


def parse(text: str, path: Path) -> Any:
    """What this text of a YAML file holds. Raises FileProblem."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FileProblem(f"{path} is not YAML: {error}") from error


def write(path: Path, text: str) -> None:
    """Raises FileProblem."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FileProblem(f"cannot write {path}: {error.strerror}") from error
