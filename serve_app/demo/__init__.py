"""The demo checkpoints: small pipelines trained by ourselves, each in the folder of its name in this package."""

from __future__ import annotations

from pathlib import Path

from serve_app.demo.checksums import check_file, check_files

NAMES = ("demo/llada2-tiny", "demo/flux-tiny", "demo/wan-tiny")
"""`demo/some-name` lies in the folder some-name, with its SHA256SUMS."""


def is_demo(name: str) -> bool:
    """Whether `name` is one of the demo models."""
    return name in NAMES


def find(name: str) -> Path:
    """The folder of the demo checkpoint `name`. Raises ValueError for one that is unknown or damaged."""
    folder = _locate(name)
    check_files(folder)
    return folder


def _locate(name: str) -> Path:
    if name not in NAMES:
        raise ValueError(f"'{name}' is no demo model; the demo models are {', '.join(NAMES)}")
    return Path(__file__).parent / name.removeprefix("demo/")


def find_file(path: str) -> str:
    """The file of a demo model, such as demo/flux-tiny/pixel-art.safetensors; any other `path` as it is.

    Raises ValueError where the model has no such file, or it is damaged; the others are not read.
    """
    name, _, file = path.rpartition("/")
    if not is_demo(name):
        return path
    folder = _locate(name)
    if not (folder / file).is_file():
        raise ValueError(f"The demo model '{name}' has no file '{file}'")
    check_file(folder, file)
    return str(folder / file)
