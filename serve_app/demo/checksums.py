"""Which bytes a trained demo checkpoint consists of: SHA256SUMS beside its files, as `sha256sum -c` reads it.

A checkpoint that was cut off on its way, or a pointer in its place, is told as that and not by what it answers.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

LIST = "SHA256SUMS"
CARD = "README.md"
"""What a model card says changes nothing about the model."""


def write_list(folder: Path) -> None:
    """Lists all files of `folder` as they are now, but for the card."""
    lines = [f"{_digest(folder / name)}  {name}\n" for name in _files(folder)]
    (folder / LIST).write_text("".join(lines))


def check_files(folder: Path) -> None:
    """Compares `folder` with its list; ValueError names the first file that is missing, changed or in no list."""
    listed, present = _read_list(folder), set(_files(folder))
    for name in sorted(listed.keys() | present):
        if name not in present:
            raise ValueError(f"The demo checkpoint {folder} is incomplete: {name} is missing. {_REMEDY}")
        _check(folder, name, listed)


def check_file(folder: Path, name: str) -> None:
    """Compares one file that is there with the list of its folder; ValueError where it is changed or in no list."""
    _check(folder, name, _read_list(folder))


def _read_list(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / LIST).read_text().splitlines()
    except FileNotFoundError:
        raise ValueError(f"The demo checkpoint {folder} has no {LIST}. {_REMEDY}") from None
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def _check(folder: Path, name: str, listed: dict[str, str]) -> None:
    if name not in listed:
        raise ValueError(f"The demo checkpoint {folder} holds {name}, which its {LIST} does not name. {_REMEDY}")
    if _digest(folder / name) != listed[name]:
        raise ValueError(f"The demo checkpoint {folder} is damaged: {name} is not what {LIST} says. {_REMEDY}")


_REMEDY = "Install diffusion-serve again, or name another model."


def _files(folder: Path) -> list[str]:
    return sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and file.name not in (LIST, CARD)
    )


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
