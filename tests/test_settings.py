"""What settings come to, as the deployments read them."""

from __future__ import annotations

import pytest

from serve_app.model_settings import ImageSettings, VideoSettings
from serve_app.settings import Settings, resolve


def test_warm_up_runs_the_sizes_that_are_named_else_the_default() -> None:
    image = ImageSettings.model_validate({"warm_up_sizes": [[64, 128]], "defaults": {"width": 256, "height": 512}})
    assert [(task.width, task.height) for task in image.warm_up_tasks(1)] == [(64, 128)]
    default = image.model_copy(update={"warm_up_sizes": ()})
    assert [(task.width, task.height) for task in default.warm_up_tasks(1)] == [(256, 512)]
    # with a negative prompt a step runs the model twice, which is another shape to compile
    written = {"warm_up_sizes": [[64, 128, 5]], "defaults": {"fps": 8, "negative_prompt": "rain"}}
    [task] = VideoSettings.model_validate(written).warm_up_tasks(3)
    assert (task.width, task.height, task.num_frames, task.fps) == (64, 128, 5, 8)
    assert (task.num_inference_steps, task.negative_prompt) == (3, "rain")


def test_a_preset_of_the_operators_takes_nothing_from_the_profiles() -> None:
    written = Settings.model_validate({"models": {"image": {"quality": {"low": {"num_inference_steps": 12}}}}})
    image = resolve(written, "gpu").served["image"]
    assert isinstance(image, ImageSettings)
    low, medium = image.preset("low"), image.preset("medium")
    assert low is not None
    assert medium is not None
    assert (low.num_inference_steps, low.step_caching) == (12, None)
    assert medium.step_caching is not None, "the profile's others stay"


def test_fewer_replicas_at_most_than_at_least_are_refused() -> None:
    with pytest.raises(ValueError, match=r"min \(3\) is above max \(2\)"):
        Settings.model_validate({"models": {"image": {"replicas": {"min": 3, "max": 2}}}})
