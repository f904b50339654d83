from __future__ import annotations

from typing import Any

import pytest

from serve_app.errors import InvalidRequest
from serve_app.media.images import ImageInfo
from serve_app.model_settings import ImageDefaults, ImageLimits, ImageSettings
from serve_app.protocol.common import MAX_SEED, parse
from serve_app.protocol.images import EditRequest, GenerationRequest, ImageAnswers, ImageRequest
from serve_app.tasks import GeneratedImage, ImagePreview, ImageResult, ImageTask, StoredObject, Timing

SETTINGS = ImageSettings(
    model="m",
    limits=ImageLimits(n=4, steps=50, min_side=64, max_side=512, prompt_chars=20),
    defaults=ImageDefaults(width=256, height=128, num_inference_steps=8, guidance_scale=3.5),
)


def task_of(*images: ImageInfo, **fields: Any) -> ImageTask:
    asked = parse(GenerationRequest, {"prompt": "a fox"} | fields)
    return asked.to_task(SETTINGS, id="i", caller="public", submitted_at=1.0, images=images)


def answers_to(asked: ImageRequest, task: ImageTask) -> ImageAnswers:
    return ImageAnswers(asked=asked, task=task, created=7, url_of=lambda stored: f"https://x/{stored.key}")


def test_defaults_come_from_the_settings_and_a_seed_is_drawn() -> None:
    task, other = task_of(), task_of()
    assert (task.width, task.height, task.num_inference_steps, task.guidance_scale) == (256, 128, 8, 3.5)
    assert (task.output_format, task.return_bytes, task.n, task.partial_images) == ("png", False, 1, 0)
    assert 0 <= task.seed <= MAX_SEED
    assert task.seed != other.seed


def test_every_field_reaches_the_task() -> None:
    task = task_of(
        n=2,
        size="100x512",
        response_format="b64_json",
        output_format="webp",
        output_compression=80,
        stream=True,
        partial_images=3,
        quality="hd",
        style="vivid",
        background="transparent",
        moderation="low",
        user="u",
        nvext={
            "negative_prompt": "rain",
            "num_inference_steps": 9,
            "guidance_scale": 0,
            "seed": 5,
            "annotations": ["x"],
        },
    )
    assert (task.n, task.width, task.height, task.seed, task.negative_prompt) == (2, 100, 512, 5, "rain")
    assert (task.num_inference_steps, task.guidance_scale) == (9, 0.0)
    assert (task.output_format, task.output_compression, task.return_bytes, task.partial_images) == (
        "webp",
        80,
        True,
        3,
    )


def test_a_blank_negative_prompt_is_none() -> None:
    assert task_of(nvext={"negative_prompt": " "}).negative_prompt is None


def test_png_has_no_quality_and_previews_need_a_stream() -> None:
    task = task_of(output_compression=50, partial_images=2)
    assert (task.output_compression, task.partial_images) == (None, 0)


def test_streams_hold_bytes_unless_urls_are_asked_for() -> None:
    assert task_of(stream=True).return_bytes
    assert not task_of(stream=True, response_format="url").return_bytes


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"n": 5}, "n", "limits.n"),
        ({"nvext": {"num_inference_steps": 51}}, "nvext.num_inference_steps", "limits.steps"),
        ({"prompt": "x" * 21}, "prompt", "limits.prompt_chars"),
        ({"prompt": "  "}, "prompt", "no text"),
        ({"nvext": {"negative_prompt": "x" * 21}}, "nvext.negative_prompt", "limits.prompt_chars"),
        ({"size": "axb"}, "size", "WIDTHxHEIGHT"),
        ({"size": "512"}, "size", "WIDTHxHEIGHT"),
        ({"size": "0x512"}, "size", "WIDTHxHEIGHT"),
        ({"size": "-64x64"}, "size", "WIDTHxHEIGHT"),
        ({"size": "999999x64"}, "size", "WIDTHxHEIGHT"),
        ({"size": "64x513"}, "size", "64 to 512"),
        ({"size": "63x64"}, "size", "limits.min_side"),
        ({"size": ""}, "size", "WIDTHxHEIGHT"),
        ({"n": 2, "nvext": {"seed": MAX_SEED}}, "nvext.seed", "last of 2"),
    ],
)
def test_what_is_beyond_a_limit_is_named(fields: dict[str, Any], param: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as raised:
        task_of(**fields)
    assert raised.value.param == param


@pytest.mark.parametrize(
    ("given", "expected"),
    [((100, 200), (100, 200)), ((1024, 512), (512, 256)), ((32, 64), (64, 128)), ((10, 1000), (64, 512))],
)
def test_an_edit_has_the_size_of_its_image_within_the_bounds(given: tuple[int, int], expected: tuple[int, int]) -> None:
    task = task_of(ImageInfo("png", *given, b"image"))
    assert (task.width, task.height) == expected
    assert task_of(ImageInfo("png", *given, b"image"), size="64x64").width == 64


def test_answers_say_what_was_made() -> None:
    asked = parse(GenerationRequest, {"prompt": "a fox", "n": 2, "nvext": {"seed": 5}})
    task = asked.to_task(SETTINGS, id="i", caller="public", submitted_at=1.0)
    images = tuple(
        GeneratedImage(seed=5 + i, object=StoredObject(key=f"media/{i}.png", content_type="image/png", size=1))
        for i in range(2)
    )
    result = ImageResult(
        images=images,
        width=256,
        height=128,
        num_inference_steps=8,
        guidance_scale=3.5,
        prompt_tokens=2,
        timing=Timing(queue_s=0.25, engine_s=1.5),
    )
    assert answers_to(asked, task).whole(result) == {
        "created": 7,
        "data": [{"url": f"https://x/media/{i}.png", "revised_prompt": None} for i in range(2)],
        "size": "256x128",
        "quality": "auto",
        "background": "opaque",
        "output_format": "png",
        "usage": {
            "input_tokens": 2,
            "output_tokens": 256,
            "total_tokens": 258,
            "input_tokens_details": {"text_tokens": 2, "image_tokens": 0},
            "output_tokens_details": {"text_tokens": 0, "image_tokens": 256},
        },
        "nvext": {
            "id": "i",
            "seeds": [5, 6],
            "num_inference_steps": 8,
            "guidance_scale": 3.5,
            "step_caching": None,
            "precision": None,
            "adapters": (),
            "inference_time_s": 1.5,
            "queue_time_s": 0.25,
            "ignored": [],
        },
    }


def test_events_have_openais_names() -> None:
    generation = parse(GenerationRequest, {"prompt": "a", "stream": True})
    edit = parse(EditRequest, {"prompt": "a", "stream": True, "image": ["https://x/a.png"]})
    result = ImageResult(
        images=(GeneratedImage(seed=1, data=b"a"),), width=256, height=128, num_inference_steps=8, guidance_scale=1.0
    )
    for asked, family in ((generation, "image_generation"), (edit, "image_edit")):
        task = asked.to_task(SETTINGS, id="i", caller="public", submitted_at=1.0)
        [preview] = answers_to(asked, task).events(ImagePreview(index=1, step=2, total=8, data=b"p"))
        assert (preview["type"], preview["partial_image_index"], preview["b64_json"]) == (
            f"{family}.partial_image",
            1,
            "cA==",
        )
        [done] = answers_to(asked, task).events(result)
        assert (done["type"], done["b64_json"], done["nvext"]["seeds"]) == (f"{family}.completed", "YQ==", [1])
        assert "usage" not in done, "no engine has counted the prompt"
