from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from serve_app.errors import InvalidRequest
from serve_app.model_settings import VideoDefaults, VideoLimits, VideoSettings
from serve_app.protocol.common import parse
from serve_app.protocol.videos import VideoRequest
from serve_app.tasks import VideoTask

SETTINGS = VideoSettings(
    model="demo/wan-tiny",
    limits=VideoLimits(max_side=512, frames=49, fps=30, steps=50, seconds=5, prompt_chars=100),
    defaults=VideoDefaults(
        width=256, height=128, num_frames=17, fps=8, num_inference_steps=4, negative_prompt="blurry"
    ),
)


def task(**body: Any) -> VideoTask:
    request = parse(VideoRequest, {"prompt": "a raccoon", **body})
    made = request.to_task(SETTINGS, id="video_1", caller="public", submitted_at=1.5)
    has_seed = request.nvext is not None and request.nvext.seed is not None
    return made if has_seed else replace(made, seed=7)


def test_a_task_has_every_default_of_the_model() -> None:
    assert task() == VideoTask(
        id="video_1",
        model="demo/wan-tiny",
        prompt="a raccoon",
        width=256,
        height=128,
        num_frames=17,
        fps=8,
        num_inference_steps=4,
        guidance_scale=None,  # neither caller nor settings say it: the model's family does
        seed=7,
        negative_prompt="blurry",
        submitted_at=1.5,
    )


def test_what_the_caller_says_wins() -> None:
    made = task(
        model="demo/wan-tiny",
        size="64x66",
        seconds=2,
        nvext={"fps": 4, "num_inference_steps": 9, "guidance_scale": 0, "seed": 0, "negative_prompt": ""},
    )
    assert (made.width, made.height, made.num_frames, made.fps) == (64, 66, 8, 4)
    assert (made.num_inference_steps, made.guidance_scale, made.seed, made.negative_prompt) == (9, 0, 0, "")


@pytest.mark.parametrize(
    ("body", "frames"),
    [
        ({"seconds": 2}, 16),
        ({"seconds": "2"}, 16),
        ({"seconds": 2, "nvext": {"fps": 10}}, 20),
        ({"seconds": 2, "nvext": {"fps": 8, "num_frames": 18}}, 18),
        ({"nvext": {"fps": 10}}, 17),
    ],
)
def test_frames(body: dict[str, Any], frames: int) -> None:
    assert task(**body).num_frames == frames


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({"prompt": "x" * 101}, "prompt", "100"),
        ({"size": "255x256"}, "size", "256x256"),
        ({"size": "64x65"}, "size", "64x66"),
        ({"size": "514x64"}, "size", "512"),
        ({"size": "0x64"}, "size", "64"),
        ({"seconds": 6}, "seconds", "5"),
        ({"seconds": "0"}, "seconds", "greater than or equal to 1"),
        ({"seconds": 5, "nvext": {"fps": 30}}, "seconds", "49"),
        ({"nvext": {"num_frames": 50}}, "nvext.num_frames", "49"),
        ({"nvext": {"fps": 31}}, "nvext.fps", "30"),
        ({"nvext": {"num_inference_steps": 51}}, "nvext.num_inference_steps", "50"),
        ({"nvext": {"negative_prompt": "x" * 101}}, "nvext.negative_prompt", "100"),
    ],
)
def test_a_limit_is_named(body: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        task(**body)
    assert refused.value.param == param


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": ""},
        {"prompt": 5},
        {"prompt": None},
        {"seconds": 1.5},
        {"seconds": "1.5"},
        {"seconds": "four"},
        {"seconds": True},
        {"size": "axb"},
        {"size": "64X64"},
        {"size": "٦٤x64"},
        {"size": 64},
        {"output_format": "webm"},
        {"response_format": "hex"},
        {"stream": "true"},
        {"input_reference": {"file_id": "file_1"}},
        {"input_reference": 5},
        {"nvext": {"steps": 4}},
        {"nvext": {"num_frames": 0}},
        {"nvext": {"num_frames": "17"}},
        {"nvext": {"seed": -1}},
        {"nvext": {"guidance_scale": float("nan")}},
        {"nvext": []},
    ],
)
def test_strict_json(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        task(**body)


def test_forms_are_coerced() -> None:
    form = {
        "prompt": "p",
        "seconds": "2",
        "stream": "false",
        "nvext": {"fps": "4", "guidance_scale": "1.5", "seed": "3"},
    }
    made = parse(VideoRequest, form, form=True).to_task(SETTINGS, id="video_1", caller="public", submitted_at=0)
    assert (made.num_frames, made.fps, made.guidance_scale, made.seed) == (8, 4, 1.5, 3)


def test_unknown_top_level_fields_and_annotations_are_ignored() -> None:
    assert task(quality="high", nvext={"annotations": ["anything"]}) == task()
