"""Algorithm names and parameters, against what an SGLang has."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from serve_app.engines.sglang import algorithms

KNOWN = {
    "LowConfidence": frozenset({"threshold", "block_size"}),
    "JointThreshold": frozenset({"threshold", "edit_threshold", "block_size"}),
}
SOURCE = """
self.threshold = config.algorithm_config.get("threshold", 0.5)
self.max_post_edit_steps = config.algorithm_config.get(
    "max_post_edit_steps", 16
)
"""


def test_what_is_there_passes() -> None:
    algorithms.check("LowConfidence", {"threshold": 0.9}, KNOWN)
    algorithms.check("JointThreshold", {}, KNOWN)


def test_an_unknown_name_lists_what_is_there() -> None:
    with pytest.raises(ValueError, match=r"JointThreshold, LowConfidence.*did you mean 'LowConfidence'"):
        algorithms.check("LowConfidense", {}, KNOWN)


def test_an_unknown_parameter_lists_what_is_there() -> None:
    with pytest.raises(
        ValueError, match=r"has no 'treshold' \(it has block_size, threshold\); did you mean 'threshold'"
    ):
        algorithms.check("LowConfidence", {"treshold": 0.9}, KNOWN)


def test_parameters_are_read_off_the_source() -> None:
    assert algorithms.parameters_read(SOURCE) == {"threshold", "max_post_edit_steps", "block_size"}


def test_the_file_holds_the_parameters(tmp_path: Path) -> None:
    path = algorithms.write("JointThreshold", {"threshold": 0.9, "penalty_lambda": 0}, tmp_path)
    assert yaml.safe_load(path.read_text()) == {"threshold": 0.9, "penalty_lambda": 0}
