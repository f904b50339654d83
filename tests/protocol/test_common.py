"""What image and video requests share: presets of quality, and adapters."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.errors import InvalidRequest
from serve_app.model_settings import ImageSettings, VideoSettings
from serve_app.protocol.common import parse
from serve_app.protocol.images import GenerationRequest
from serve_app.protocol.videos import VideoRequest
from serve_app.tasks import Adapter, ImageTask, StepCaching, VideoTask

ADAPTERS = {
    "pixel-art": {"path": "/loras/pixel-art.safetensors", "scale": 0.9},
    "acme/sketch": {"path": "/loras/sketch.safetensors"},
}
QUALITY = {
    "low": {"num_inference_steps": 4, "step_caching": {"method": "first_block", "threshold": 0.2}},
    "high": {"num_inference_steps": 40, "guidance_scale": 6, "precision": "exact"},
    "max": {"num_inference_steps": 90},
    "hd": None,
}
SHARED: dict[str, Any] = {
    "model": "base",
    "adapters": ADAPTERS,
    "quality": QUALITY,
    "limits": {"steps": 50},
    "defaults": {"num_inference_steps": 8, "guidance_scale": 3.5},
}
KINDS = [pytest.param("image", id="image"), pytest.param("video", id="video")]


def task_of(kind: str, **fields: Any) -> ImageTask | VideoTask:
    if kind == "image":
        drawn = parse(GenerationRequest, {"prompt": "a fox"} | fields)
        return drawn.to_task(ImageSettings.model_validate(SHARED), id="i", caller="c", submitted_at=1.0)
    filmed = parse(VideoRequest, {"prompt": "a fox"} | fields)
    return filmed.to_task(VideoSettings.model_validate(SHARED), id="v", caller="c", submitted_at=1.0)


def adapters_of(kind: str, **fields: Any) -> dict[str, float]:
    return {adapter.name: adapter.scale for adapter in task_of(kind, **fields).adapters}


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_a_model_of_its_own(kind: str) -> None:
    task = task_of(kind, model="pixel-art")
    assert (task.model, task.adapters) == ("pixel-art", (Adapter(name="pixel-art", scale=0.9),))
    assert (task_of(kind, model="base").model, task_of(kind, model="base").adapters) == ("base", ())
    assert (task_of(kind).model, task_of(kind).adapters) == ("base", ())


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_named_beside_the_model_with_scales(kind: str) -> None:
    both = [{"name": "pixel-art", "scale": -0.5}, {"name": "acme/sketch"}]
    assert adapters_of(kind, nvext={"adapters": both}) == {"pixel-art": -0.5, "acme/sketch": 1.0}
    assert adapters_of(kind, model="pixel-art", nvext={"adapters": both[1:]}) == {"pixel-art": 0.9, "acme/sketch": 1.0}
    assert adapters_of(kind, model="pixel-art", nvext={"adapters": both[:1]}) == {"pixel-art": -0.5}
    assert adapters_of(kind, adapters=both) == adapters_of(kind, nvext={"adapters": both})
    assert adapters_of(kind, nvext={"adapters": []}) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_in_which_they_come_means_nothing(kind: str) -> None:
    both = [{"name": "pixel-art"}, {"name": "acme/sketch"}]
    assert task_of(kind, adapters=both).adapters == task_of(kind, adapters=both[::-1]).adapters


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("adapters", "param", "message"),
    [
        ([{"name": "/etc/passwd"}], "nvext.adapters", "it has 'pixel-art', 'acme/sketch'."),
        ([{"name": "pixel-art"}, {"name": "pixel-art"}], "nvext.adapters", "twice"),
        ([{"name": "pixel-art", "scale": 11}], "nvext.adapters", "10"),
        ([{"name": "pixel-art", "path": "/x.safetensors"}], "nvext.adapters", "path"),
        ([{"scale": 1}], "nvext.adapters", "name"),
        (["pixel-art"], "nvext.adapters", "object"),
        ("pixel-art", "nvext.adapters", "list"),
        ([{"name": "pixel-art"}] * 17, "nvext.adapters", "16"),
    ],
)
def test_only_what_the_settings_name_is_applied(kind: str, adapters: Any, param: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as raised:
        task_of(kind, nvext={"adapters": adapters})
    assert (raised.value.param or "").startswith(param)


def test_a_model_without_adapters_says_so() -> None:
    asked = parse(GenerationRequest, {"prompt": "a fox", "adapters": [{"name": "pixel-art"}]})
    with pytest.raises(InvalidRequest, match="the model 'm' has no adapter 'pixel-art'; it has none") as raised:
        asked.to_task(ImageSettings(model="m"), id="i", caller="c", submitted_at=1.0)
    assert raised.value.param == "adapters"


@pytest.mark.parametrize("kind", KINDS)
def test_quality_chooses_a_preset_of_the_model(kind: str) -> None:
    low, high = task_of(kind, quality="low"), task_of(kind, quality="high")
    assert (low.quality, low.num_inference_steps, low.guidance_scale, low.precision) == ("low", 4, 3.5, None)
    assert low.step_caching == StepCaching(method="first_block", parameters={"threshold": 0.2})
    assert (high.quality, high.num_inference_steps, high.guidance_scale) == ("high", 40, 6)
    assert (high.step_caching, high.precision) == (None, "exact")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quality", [None, "auto", "standard", "hd"])
def test_without_a_preset_the_models_exact_defaults_count(kind: str, quality: str | None) -> None:
    task = task_of(kind, quality=quality)
    assert (task.quality, task.num_inference_steps, task.guidance_scale) == (None, 8, 3.5)
    assert (task.step_caching, task.precision) == (None, None)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_caller_says_wins_over_the_preset(kind: str) -> None:
    task = task_of(kind, quality="high", nvext={"num_inference_steps": 3, "guidance_scale": 0})
    assert (task.num_inference_steps, task.guidance_scale, task.precision) == (3, 0, "exact")


@pytest.mark.parametrize("kind", KINDS)
def test_a_preset_is_cut_to_the_limits(kind: str) -> None:
    assert task_of(kind, quality="max").num_inference_steps == 50
