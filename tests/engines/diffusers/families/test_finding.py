"""How a checkpoint finds its family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serve_app.engines.diffusers.families import check_release
from serve_app.engines.families import algorithms_of
from serve_app.engines.load import load
from serve_app.model_settings import TextSettings


def test_an_unknown_architecture_lists_the_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}))
    with pytest.raises(ValueError, match=r"is a GPT2LMHeadModel, no text model this engine knows: .*LLaDA2MoeModelLM"):
        load(TextSettings(model=str(tmp_path)))


def test_a_family_names_the_release_that_it_needs() -> None:
    check_release("'m' is a DiffusionGemma", "0.39", "0.39.0")
    with pytest.raises(ValueError, match=r"'m' is a DiffusionGemma, which needs diffusers 0.39 or later; 0.37.0 is"):
        check_release("'m' is a DiffusionGemma", "0.39", "0.37.0")


@pytest.mark.parametrize(
    ("architecture", "first"),
    [("DiffusionGemmaForBlockDiffusion", "Gemma4Renoise"), ("LLaDA2MoeModelLM", "LowConfidence")],
)
def test_the_architecture_of_a_folder_tells_its_algorithms(tmp_path: Path, architecture: str, first: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    assert algorithms_of(TextSettings(model=str(tmp_path)))[0] == first
