"""What SGLang's text engine is started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.engines.sglang.text import engine_arguments
from serve_app.model_settings import TextSettings
from serve_app.settings import Settings, resolve

LLADA = "inclusionAI/LLaDA2.0-mini-preview"


def arguments(folder: Path, **text: Any) -> dict[str, Any]:
    written = Settings.model_validate({"models": {"text": text}})
    return engine_arguments(resolve(written, "gpu").model("text", TextSettings), folder)


@pytest.mark.parametrize(
    ("text", "trusted"),
    [
        ({}, True),  # the profile's own model
        ({"model": LLADA}, True),
        ({"model": "somebody/other"}, False),
        ({"model": "somebody/other", "trust_remote_code": True}, True),
        ({"trust_remote_code": False}, False),
    ],
)
def test_the_code_of_a_checkpoint_runs_only_where_the_settings_say_so(
    text: dict[str, Any], trusted: bool, tmp_path: Path
) -> None:
    assert arguments(tmp_path, **text)["trust_remote_code"] is trusted


def test_the_revision() -> None:
    assert "revision" not in arguments(Path())
    assert arguments(Path(), revision="v1")["revision"] == "v1"


def test_diffusion_gemma_takes_its_own_algorithm_and_attention(tmp_path: Path) -> None:
    llada = arguments(tmp_path, model=LLADA)
    assert (llada["dllm_algorithm"], llada["attention_backend"]) == ("LowConfidence", "flashinfer")
    gemma = arguments(tmp_path, model="google/diffusiongemma-26B-A4B-it", algorithm_config={"entropy_bound": 0.2})
    assert (gemma["dllm_algorithm"], gemma["attention_backend"]) == ("Gemma4Renoise", "triton")
    # SGLang reads it there alone
    assert yaml.safe_load(Path(gemma["dllm_algorithm_config"]).read_text()) == {
        "sampler_config": {"entropy_bound": 0.2}
    }
