from __future__ import annotations

from typing import Any

import pytest

from serve_app.engines.diffusers.algorithms import Renoising, Unmasking, parse_algorithm
from serve_app.model_settings import TextSettings


def parse(algorithm: str, **config: Any) -> Any:
    return parse_algorithm(TextSettings(algorithm=algorithm, algorithm_config=config))


def test_the_first_known_is_taken_where_the_settings_name_none() -> None:
    assert parse_algorithm(TextSettings(), ("JointThreshold", "LowConfidence")).name == "JointThreshold"


def test_low_confidence_never_edits() -> None:
    assert parse("LowConfidence") == Unmasking("LowConfidence", threshold=0.95)
    assert parse("LowConfidence", threshold=0.5).threshold == 0.5
    assert not parse("LowConfidence").edits


def test_joint_threshold_takes_sglangs_defaults() -> None:
    algorithm = parse("JointThreshold")
    assert (algorithm.threshold, algorithm.max_post_steps) == (0.5, 16)


def test_an_edit_threshold_of_zero_means_always_edit() -> None:
    algorithm = parse("JointThreshold", edit_threshold=0)
    assert algorithm.editing_threshold is not None
    assert 0 < algorithm.editing_threshold < 1e-30
    assert parse("JointThreshold", edit_threshold=0.3).editing_threshold == 0.3


def test_gemma4_renoise_takes_sglangs_defaults() -> None:
    assert parse("Gemma4Renoise") == Renoising("Gemma4Renoise", 48, 0.1, 0.4, 0.8, 0.005, 1)
    assert parse("Gemma4Renoise", entropy_bound=0.5) == Renoising("Gemma4Renoise", 48, 0.5, 0.4, 0.8, 0.005, 1)


def test_an_unknown_algorithm_lists_the_known() -> None:
    with pytest.raises(ValueError, match="'HighConfidence': the diffusers engine has LowConfidence, JointThreshold"):
        parse("HighConfidence")


@pytest.mark.parametrize(
    ("algorithm", "config", "message"),
    [
        ("LowConfidence", {"edit_threshold": 0.5}, "edit_threshold: LowConfidence takes threshold"),
        ("JointThreshold", {"treshold": 0.5}, "JointThreshold takes threshold, edit_threshold, max_post_edit_steps"),
        ("JointThreshold", {"penalty_lambda": 0.5}, "only 0 is allowed"),
        ("LowConfidence", {"threshold": 1.5}, "1.5 is not between 0.0 and 1.0"),
        ("JointThreshold", {"max_post_edit_steps": -1}, "not between"),
        ("LowConfidence", {"threshold": "high"}, "'high' is no number"),
        ("Gemma4Renoise", {"t_min": 0.9}, "t_min of Gemma4Renoise: 0.9 is not between 0.0 and 0.8"),
        ("LowConfidence", {"threshold": True}, "True is no number"),
    ],
)
def test_bad_parameters(algorithm: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(algorithm, **config)
