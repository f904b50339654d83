"""Refusals by name of what a model cannot do."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.capabilities import refuse_what_it_lacks, requirements_of
from serve_app.errors import InvalidRequest, UnsupportedParameter
from serve_app.tasks import ImageTask, ModelCard, VideoTask

PLAIN = ModelCard(model="plain", kind="image", engine="e", input_images=0)
VIDEO_ABLE = frozenset({"image_to_video", "last_frame", "two_experts", "negative_prompt"})


def image(**changes: Any) -> ImageTask:
    values: dict[str, Any] = {"id": "i", "model": "m", "prompt": "p", "width": 64, "height": 64, "seed": 1}
    return ImageTask(**(values | changes))


def video(**changes: Any) -> VideoTask:
    values: dict[str, Any] = {
        "id": "v",
        "model": "m",
        "prompt": "p",
        "width": 64,
        "height": 64,
        "num_frames": 5,
        "fps": 8,
        "seed": 1,
    }
    return VideoTask(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "images", "param"),
    [
        ({"input_images": (b"a",)}, 0, "image"),
        ({"input_images": (b"a",), "mask": b"b"}, 0, "image"),
        ({"negative_prompt": "rain"}, 0, "nvext.negative_prompt"),
        ({"parameters": {"flow_shift": 3.0}}, 0, "nvext.flow_shift"),
    ],
)
def test_an_image_model_without_it(changes: dict[str, Any], images: int, param: str) -> None:
    with pytest.raises(UnsupportedParameter, match="The model 'plain'") as refused:
        refuse_what_it_lacks(image(**changes), PLAIN, images=images)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("changes", "images", "param"),
    [
        ({}, 1, "input_reference"),
        ({"boundary_ratio": 0.9}, 0, "nvext.boundary_ratio"),
        ({"guidance_scale_2": 3.0}, 0, "nvext.guidance_scale_2"),
    ],
)
def test_a_video_model_without_it(changes: dict[str, Any], images: int, param: str) -> None:
    refuse_what_it_lacks(video(**changes), ModelCard(model="m", kind="video", engine="e", capabilities=VIDEO_ABLE))
    with pytest.raises(UnsupportedParameter) as refused:
        refuse_what_it_lacks(video(**changes), ModelCard(model="m", kind="video", engine="e"), images=images)
    assert refused.value.param == param


def test_a_model_takes_so_many_images() -> None:
    two = ModelCard(model="two", kind="image", engine="e", capabilities=frozenset({"edit"}), input_images=2)
    refuse_what_it_lacks(image(input_images=(b"a", b"b")), two)
    with pytest.raises(InvalidRequest, match=r"'image' holds 3 images; the model 'two' takes 2\.") as refused:
        refuse_what_it_lacks(image(input_images=(b"a",) * 3), two)
    assert refused.value.param == "image"


def test_a_parameter_of_another_family_names_those_of_this_one() -> None:
    card = ModelCard(model="m", kind="image", engine="e", parameters=frozenset({"true_cfg_scale"}))
    with pytest.raises(UnsupportedParameter, match=r"has no flow_shift: it has true_cfg_scale\."):
        refuse_what_it_lacks(image(parameters={"flow_shift": 3.0}), card)


def test_what_every_model_can_requires_nothing() -> None:
    assert requirements_of(image(num_inference_steps=3, guidance_scale=2.0)) == []
    assert requirements_of(video()) == []
