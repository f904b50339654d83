"""What `diffusion-serve settings` prints is complete, true, and YAML that can be pasted."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest
import yaml

from serve_app.cli import main
from serve_app.settings import Settings, resolve


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["settings"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("profile", ["demo", "gpu"])
def test_pasting_all_of_it_changes_nothing(profile: Literal["demo", "gpu"], capsys: pytest.CaptureFixture[str]) -> None:
    """With that profile's value where two stand."""
    one = r"\1" if profile == "demo" else r"\2"
    text = re.sub(r": ([^\s|]+) \| ([^\s|]+)", f": {one}", printed(capsys))
    pasted = Settings.model_validate(yaml.safe_load(text))
    assert resolve(pasted, profile) == resolve(Settings(), profile)


def test_every_key_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    def paths(value: Any, above: str = "") -> set[str]:
        if not isinstance(value, dict):
            return {above}
        return {path for key, inner in value.items() for path in paths(inner, f"{above}.{key}")} or {above}

    every = paths(resolve(Settings(), "demo").model_dump())
    told = paths(yaml.safe_load(printed(capsys)))
    assert {path for path in every if not path.endswith(".kind")} == told


def test_meanings_and_choices_stand_beside_the_values(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.strip() for line in printed(capsys).splitlines()]
    assert "max_queued: 64  # waiting requests beyond which callers get a 429" in lines
    assert "output_format: png  # png, jpeg, webp" in lines
