"""The dLLM algorithms by SGLang's names and parameters, as arguments of LLaDA2Pipeline. Pure."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from serve_app.model_settings import TextSettings

BLOCK_LENGTH = 32
_DEFAULTS: dict[str, dict[str, float]] = {
    "LowConfidence": {"threshold": 0.95},
    "JointThreshold": {"threshold": 0.5, "edit_threshold": 0, "max_post_edit_steps": 16, "penalty_lambda": 0},
}


@dataclass(frozen=True, slots=True)
class Algorithm:
    """`editing_threshold` is None where finished tokens are never edited."""

    name: str
    threshold: float
    editing_threshold: float | None = None
    max_post_steps: int = 0

    @property
    def edits(self) -> bool:
        return self.editing_threshold is not None


def parse_algorithm(settings: TextSettings) -> Algorithm:
    """The algorithm of the settings; ValueError that lists what is allowed for a name or parameter it does not know."""
    name = settings.algorithm
    if name not in _DEFAULTS:
        raise ValueError(f"text.algorithm '{name}': the diffusers engine has {', '.join(_DEFAULTS)}")
    values = _DEFAULTS[name] | {key: _number(name, key, value) for key, value in settings.algorithm_config.items()}
    threshold = _within(name, "threshold", values["threshold"], 0.0, 1.0)
    if name == "LowConfidence":
        return Algorithm(name, threshold)
    if values["penalty_lambda"] != 0:
        raise ValueError("text.algorithm_config.penalty_lambda: the diffusers engine has no penalty, only 0 is allowed")
    post_steps = _within(name, "max_post_edit_steps", values["max_post_edit_steps"], 0, 1024)
    edit_threshold = _within(name, "edit_threshold", values["edit_threshold"], 0.0, 1.0)
    # SGLang's 0 means "edit whenever the prediction differs"; diffusers reads 0 as "never edit"
    return Algorithm(name, threshold, edit_threshold or sys.float_info.min, int(post_steps))


def _number(name: str, key: str, value: object) -> float:
    allowed = _DEFAULTS[name]
    if key not in allowed:
        raise ValueError(f"text.algorithm_config.{key}: {name} takes {', '.join(allowed)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"text.algorithm_config.{key}: {value!r} is no number")
    return value


def _within(name: str, key: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise ValueError(f"text.algorithm_config.{key} of {name}: {value} is not between {low} and {high}")
    return value
