"""The dLLM algorithms by SGLang's names and parameters, as what diffusers' pipelines of text take. Pure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.engines.families import GEMMA4_RENOISE, JOINT_THRESHOLD, LOW_CONFIDENCE
from serve_app.model_settings import TextSettings

_DEFAULTS: dict[str, dict[str, float]] = {
    LOW_CONFIDENCE: {"threshold": 0.95},
    JOINT_THRESHOLD: {"threshold": 0.5, "edit_threshold": 0, "max_post_edit_steps": 16, "penalty_lambda": 0},
    GEMMA4_RENOISE: {
        "max_denoising_steps": 48,
        "entropy_bound": 0.1,
        "t_min": 0.4,
        "t_max": 0.8,
        "confidence_threshold": 0.005,
        "stability_threshold": 1,
    },
}


@dataclass(frozen=True, slots=True)
class Unmasking:
    """Each step fills the masks that it is sure of. `editing_threshold` is None where no token is edited later."""

    name: str
    threshold: float
    editing_threshold: float | None = None
    max_post_steps: int = 0

    @property
    def edits(self) -> bool:
        return self.editing_threshold is not None


@dataclass(frozen=True, slots=True)
class Renoising:
    """Each step accepts the surest tokens and draws the others anew; a `confidence_threshold` of 0 runs all steps."""

    name: str
    max_denoising_steps: int
    entropy_bound: float
    t_min: float
    t_max: float
    confidence_threshold: float
    stability_threshold: int


Algorithm = Unmasking | Renoising


def parse_algorithm(settings: TextSettings, known: Sequence[str] = tuple(_DEFAULTS)) -> Algorithm:
    """The algorithm of the settings, or the first of `known`; ValueError that lists what is allowed for a name or
    parameter it does not know.
    """
    name = settings.algorithm or known[0]
    if name not in known or name not in _DEFAULTS:
        raise ValueError(f"text.algorithm '{name}': the diffusers engine has {', '.join(known)} for this model")
    values = _DEFAULTS[name] | {key: _number(name, key, value) for key, value in settings.algorithm_config.items()}
    if name == GEMMA4_RENOISE:
        return _renoising(name, values)
    threshold = _within(name, "threshold", values["threshold"], 0.0, 1.0)
    if name == LOW_CONFIDENCE:
        return Unmasking(name, threshold)
    if values["penalty_lambda"] != 0:
        raise ValueError("text.algorithm_config.penalty_lambda: the diffusers engine has no penalty, only 0 is allowed")
    post_steps = _within(name, "max_post_edit_steps", values["max_post_edit_steps"], 0, 1024)
    edit_threshold = _within(name, "edit_threshold", values["edit_threshold"], 0.0, 1.0)
    # SGLang's 0 means "edit whenever the prediction differs"; diffusers reads 0 as "never edit"
    return Unmasking(name, threshold, edit_threshold or sys.float_info.min, int(post_steps))


def _renoising(name: str, values: dict[str, float]) -> Renoising:
    t_max = _within(name, "t_max", values["t_max"], _LEAST, 100.0)
    return Renoising(
        name,
        max_denoising_steps=int(_within(name, "max_denoising_steps", values["max_denoising_steps"], 1, 1024)),
        entropy_bound=_within(name, "entropy_bound", values["entropy_bound"], _LEAST, 1000.0),
        t_min=_within(name, "t_min", values["t_min"], 0.0, t_max),
        t_max=t_max,
        confidence_threshold=_within(name, "confidence_threshold", values["confidence_threshold"], 0.0, 1000.0),
        stability_threshold=int(_within(name, "stability_threshold", values["stability_threshold"], 1, 1024)),
    )


_LEAST = 1e-6


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
