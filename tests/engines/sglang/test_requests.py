"""Tasks as SGLang's sampling parameters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from serve_app.engines.sglang.requests import image_arguments, video_arguments, without_none
from serve_app.tasks import ImageTask, StepCaching, VideoTask

IMAGE = ImageTask(
    id="i", model="m", prompt="p", width=100, height=72, num_inference_steps=4, guidance_scale=3.5, seed=5
)
VIDEO = VideoTask(
    id="v",
    model="m",
    prompt="p",
    width=832,
    height=480,
    num_frames=17,
    fps=8,
    num_inference_steps=4,
    guidance_scale=5.0,
    seed=5,
)
FOLDER = Path("/dev/shm/x")


def test_none_is_left_out() -> None:
    assert without_none({"a": None, "b": 0, "c": ""}) == {"b": 0, "c": ""}


def test_an_image_at_the_next_multiples_comes_back_as_pixels() -> None:
    arguments = image_arguments(IMAGE, seed=7, multiple=16)
    assert (arguments["width"], arguments["height"], arguments["seed"]) == (112, 80, 7)
    assert arguments["return_frames"]
    assert not arguments["save_output"]
    assert not arguments["return_file_paths_only"]
    assert "negative_prompt" not in arguments


def test_a_preset_becomes_sglangs_own_parameters() -> None:
    cache_dit = StepCaching(method="cache_dit", parameters={"scm_preset": "fast"})
    arguments = image_arguments(replace(IMAGE, step_caching=cache_dit, precision="approximate"), seed=7, multiple=16)
    assert arguments["enable_cache_dit"] is True
    assert arguments["cache_dit_params"] == {"scm_preset": "fast"}
    assert (arguments["quality"], "enable_teacache" in arguments) == ("high", False)
    task = replace(VIDEO, step_caching=StepCaching(method="teacache"), precision="exact")
    arguments = video_arguments(task, multiple=16, image_path=None, folder=FOLDER)
    assert (arguments["enable_teacache"], arguments["quality"]) == (True, "exact")
    bare = replace(IMAGE, step_caching=StepCaching(method="cache_dit"))
    assert "cache_dit_params" not in image_arguments(bare, seed=7, multiple=16)
    plain = image_arguments(IMAGE, seed=7, multiple=16)
    assert not {"quality", "enable_cache_dit", "enable_teacache"} & set(plain)


def test_a_negative_prompt_is_handed_on_even_empty() -> None:
    assert image_arguments(replace(IMAGE, negative_prompt=""), seed=7, multiple=16)["negative_prompt"] == ""


def test_the_worker_encodes_what_fits() -> None:
    arguments = video_arguments(VIDEO, multiple=16, image_path=None, folder=FOLDER)
    assert arguments["save_output"]
    assert arguments["return_file_paths_only"]
    assert (arguments["output_path"], arguments["output_file_name"]) == (str(FOLDER), "v.mp4")
    assert not {"image_path", "guidance_scale_2", "boundary_ratio", "negative_prompt"} & set(arguments)


def test_frames_come_back_where_something_is_cut_off() -> None:
    for task in (replace(VIDEO, num_frames=18), replace(VIDEO, width=830), replace(VIDEO, height=470)):
        arguments = video_arguments(task, multiple=16, image_path=None, folder=FOLDER)
        assert not arguments["save_output"]
        assert arguments["return_frames"]
        assert "output_path" not in arguments
    assert (
        video_arguments(replace(VIDEO, num_frames=18), multiple=16, image_path=None, folder=FOLDER)["num_frames"] == 21
    )


def test_experts_and_image() -> None:
    task = replace(VIDEO, guidance_scale_2=3.0, boundary_ratio=0.9)
    arguments = video_arguments(task, multiple=16, image_path=FOLDER / "v.png", folder=FOLDER)
    assert (arguments["guidance_scale_2"], arguments["boundary_ratio"]) == (3.0, 0.9)
    assert arguments["image_path"] == "/dev/shm/x/v.png"


def test_images_to_edit_are_a_list_of_files() -> None:
    arguments = image_arguments(IMAGE, seed=7, multiple=16, image_paths=[FOLDER / "i-0.png", FOLDER / "i-1.png"])
    assert arguments["image_path"] == [str(FOLDER / "i-0.png"), str(FOLDER / "i-1.png")]
    assert "image_path" not in image_arguments(IMAGE, seed=7, multiple=16)
