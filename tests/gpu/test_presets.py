"""The gpu profile's presets of `quality`: the higher one computes more steps, whatever the picture."""

from __future__ import annotations

import pytest

from serve_app.profiles import PROFILES

cache_dit = pytest.importorskip("cache_dit")
pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("kind", ["image", "video"])
@pytest.mark.parametrize("steps", [28, 50])
def test_a_higher_quality_computes_more_steps(kind: str, steps: int) -> None:
    quality = PROFILES["gpu"]["models"][kind]["quality"]
    caching = [quality[name]["step_caching"] for name in ("low", "medium")]
    assert {each["scm_policy"] for each in caching} == {"static"}
    low, medium = (sum(cache_dit.steps_mask(total_steps=steps, mask_policy=each["scm_preset"])) for each in caching)
    assert 0 < low < medium < steps
