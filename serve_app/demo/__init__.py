"""The demo checkpoints: small pipelines trained by ourselves, each in the folder of its name in this package."""

from __future__ import annotations

from pathlib import Path

from serve_app.demo.checksums import check_files

NAMES = ("demo/llada2-tiny", "demo/flux-tiny", "demo/wan-tiny")
"""`demo/some-name` lies in the folder some-name, with its SHA256SUMS."""


def is_demo(name: str) -> bool:
    """Whether `name` is one of the demo models."""
    return name in NAMES


def find(name: str) -> Path:
    """The folder of the demo checkpoint `name`. Raises ValueError for one that is unknown or damaged."""
    if name not in NAMES:
        raise ValueError(f"'{name}' is no demo model; the demo models are {', '.join(NAMES)}")
    folder = Path(__file__).parent / name.removeprefix("demo/")
    check_files(folder)
    return folder


def is_demo_file(path: str) -> bool:
    """Whether `path` is written as a file of a demo model, such as demo/flux-tiny/pixel-art.safetensors."""
    return is_demo(path.rpartition("/")[0])


def find_file(path: str) -> Path:
    """The file of a demo model. Raises ValueError where there is none, or the model is damaged."""
    name, _, file = path.rpartition("/")
    found = find(name) / file
    if not found.is_file():
        raise ValueError(f"The demo model '{name}' has no file '{file}'")
    return found
