from __future__ import annotations

from typing import Any

import pytest

from serve_app.engines.diffusers.arguments import Renoising, Unmasking, parse_algorithm
from serve_app.engines.diffusers.families.llada2 import pipeline_arguments
from serve_app.model_settings import TextSettings
from serve_app.tasks import TextTask


def parse(algorithm: str, **config: Any) -> Any:
    return parse_algorithm(TextSettings(algorithm=algorithm, algorithm_config=config))


def for_llada2(algorithm: str, **config: Any) -> dict[str, Any]:
    return pipeline_arguments(TextTask(id="t", model="m", max_tokens=8), parse(algorithm, **config), 32)


def test_the_first_known_is_taken_where_the_settings_name_none() -> None:
    assert parse_algorithm(TextSettings(), ("JointThreshold", "LowConfidence")).name == "JointThreshold"


def test_low_confidence_never_edits() -> None:
    assert parse("LowConfidence") == Unmasking(threshold=0.95)
    assert parse("LowConfidence", threshold=0.5).threshold == 0.5
    assert for_llada2("LowConfidence")["editing_threshold"] is None


def test_joint_threshold_takes_sglangs_defaults() -> None:
    arguments = for_llada2("JointThreshold")
    assert (arguments["threshold"], arguments["max_post_steps"]) == (0.5, 16)


def test_an_edit_threshold_of_zero_means_always_edit() -> None:
    assert 0 < for_llada2("JointThreshold", edit_threshold=0)["editing_threshold"] < 1e-30
    assert for_llada2("JointThreshold", edit_threshold=0.3)["editing_threshold"] == 0.3


def test_gemma4_renoise_takes_sglangs_defaults() -> None:
    sglangs = Renoising(
        max_denoising_steps=48,
        entropy_bound=0.1,
        t_min=0.4,
        t_max=0.8,
        confidence_threshold=0.005,
        stability_threshold=1,
    )
    assert parse("Gemma4Renoise") == sglangs
    assert parse("Gemma4Renoise", entropy_bound=0.5) == sglangs.model_copy(update={"entropy_bound": 0.5})


def test_an_unknown_algorithm_lists_the_known() -> None:
    with pytest.raises(ValueError, match="'HighConfidence': the diffusers engine has LowConfidence, JointThreshold"):
        parse("HighConfidence")


@pytest.mark.parametrize(
    ("algorithm", "config", "message"),
    [
        (
            "LowConfidence",
            {"edit_threshold": 0.5},
            "edit_threshold: Extra inputs are not permitted. Allowed: threshold$",
        ),
        ("JointThreshold", {"treshold": 0.5}, "Allowed: threshold, edit_threshold, max_post_edit_steps"),
        ("JointThreshold", {"penalty_lambda": 0.5}, "penalty_lambda: Input should be less than or equal to 0"),
        ("LowConfidence", {"threshold": 1.5}, "threshold: Input should be less than or equal to 1"),
        ("JointThreshold", {"max_post_edit_steps": -1}, "max_post_edit_steps: Input should be greater than or equal"),
        ("LowConfidence", {"threshold": "high"}, "text.algorithm_config of LowConfidence: threshold: .* valid number"),
        ("Gemma4Renoise", {"t_min": 0.9}, r"t_min \(0.9\) is above t_max \(0.8\)"),
        ("LowConfidence", {"threshold": True}, "threshold: Input should be a valid number"),
    ],
)
def test_bad_parameters(algorithm: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(algorithm, **config)
