"""What `diffusion-serve settings` prints is complete, true, and YAML that can be pasted."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest
import yaml

from serve_app.cli import main
from serve_app.settings import Settings, resolve

UNSET = {
    f".models.{kind}.quality.{preset}.{key}"
    for kind in ("image", "video")
    for preset in ("low", "high")
    for key in ("guidance_scale", "step_caching", "precision")
}
"""Of a preset only what it sets is printed."""


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["settings"]) == 0
    return capsys.readouterr().out


def pasted_yaml(text: str, profile: Literal["demo", "gpu"]) -> Any:
    one = r"\1" if profile == "demo" else r"\2"
    return yaml.safe_load(re.sub(r": (.+) \| (.+?)(?=  #|$)", f": {one}", text, flags=re.MULTILINE))


@pytest.mark.parametrize("profile", ["demo", "gpu"])
def test_pasting_all_of_it_changes_nothing(profile: Literal["demo", "gpu"], capsys: pytest.CaptureFixture[str]) -> None:
    """With that profile's value where two stand."""
    pasted = Settings.model_validate(pasted_yaml(printed(capsys), profile))
    assert resolve(pasted, profile) == resolve(Settings(), profile)


def test_every_key_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    def paths(value: Any, above: str = "") -> set[str]:
        if not isinstance(value, dict):
            return {above}
        return {path for key, inner in value.items() for path in paths(inner, f"{above}.{key}")} or {above}

    every = paths(resolve(Settings(), "demo").model_dump())
    told = paths(pasted_yaml(printed(capsys), "demo"))
    assert {path for path in every if not path.endswith(".kind")} - UNSET == told


def test_meanings_and_choices_stand_beside_the_values(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.strip() for line in printed(capsys).splitlines()]
    assert "max_queued: 64  # waiting requests; further ones get a 429" in lines
    assert "output_format: png  # png, jpeg, webp" in lines
    assert "#   scale: 1.0  # its strength where a caller names none" in lines
    assert "#   num_inference_steps: null" in lines
