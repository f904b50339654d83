"""serve_app/README.md is true: the modules that it names exist, and its table of families is the code's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import serve_app
from serve_app.engines.diffusers.families import families_of
from serve_app.engines.diffusers.families.base import Family
from serve_app.engines.families import FAMILIES

PACKAGE = Path(serve_app.__file__).parent
README = (PACKAGE / "README.md").read_text()


def rows_under(title: str) -> list[tuple[str, ...]]:
    lines = README.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
    table = [line for line in lines if line.startswith("|")][2:]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table]


def test_the_modules_that_it_names_exist() -> None:
    named = re.findall(r"`([a-z_0-9/]+(?:\.py|/))`", README)
    assert len(named) > 30
    missing = [
        name
        for name in named
        if not any((folder / name).exists() for folder in (PACKAGE, PACKAGE / "engines/diffusers", PACKAGE.parent))
        and not list(PACKAGE.rglob(name.rstrip("/")))
    ]
    assert missing == []


def test_the_table_of_families_is_the_code_s() -> None:
    families = {family.name: family.since for family in families_of(Family)}
    native = {family.name for family in FAMILIES}
    assert native <= set(families)
    extras = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [sglang] = re.findall(r"^sglang\S+>=(\S+)$", "\n".join(extras["sglang"]), re.MULTILINE)
    expected = [(name, since, sglang if name in native else "no") for name, since in families.items()]
    assert rows_under("Families") == expected
