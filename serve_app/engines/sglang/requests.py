"""A task as keyword arguments of SGLang's SamplingParams. Pure: no torch, no sglang.

A key whose value is None is left out: None is a value to SGLang, and `negative_prompt=None` overwrites Wan's default
and turns its guidance off, which is another video at half the work.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serve_app.engines.pictures import next_frames, next_multiple
from serve_app.tasks import ImageTask, Precision, StepCaching, VideoTask

Arguments = dict[str, Any]
GROUP = 4
"""Wan makes 4k + 1 frames."""
AS_PIXELS = {"save_output": False, "return_frames": True, "return_file_paths_only": False}


def image_arguments(task: ImageTask, *, seed: int, multiple: int, image_paths: Sequence[Path] = ()) -> Arguments:
    """One image, drawn with `seed`, which comes back as pixels: n images are n requests, so that each is its own.

    `image_paths` are the files of the images to edit.
    """
    paths = [str(path) for path in image_paths] or None
    return without_none({**_shared(task, multiple), "image_path": paths, "seed": seed, **AS_PIXELS})


def video_arguments(task: VideoTask, *, multiple: int, image_path: Path | None, folder: Path) -> Arguments:
    """One video. The worker encodes it into `folder` where it makes exactly what was asked, else frames come back."""
    arguments = {
        **_shared(task, multiple),
        "seed": task.seed,
        "num_frames": next_frames(task.num_frames, GROUP),
        "fps": task.fps,
        "guidance_scale_2": task.guidance_scale_2,
        "boundary_ratio": task.boundary_ratio,
        "image_path": str(image_path) if image_path else None,
    }
    if worker_encodes(task, multiple):
        arguments |= {
            "save_output": True,
            "return_file_paths_only": True,
            "output_path": str(folder),
            "output_file_name": f"{task.id}.mp4",
        }
    else:
        arguments |= AS_PIXELS
    return without_none(arguments)


def worker_encodes(task: VideoTask, multiple: int) -> bool:
    """Whether nothing is to be cropped or cut off; SGLang's encoder also scales what is no multiple of 16."""
    has_size = all(side % multiple == 0 and side % 16 == 0 for side in (task.width, task.height))
    return has_size and next_frames(task.num_frames, GROUP) == task.num_frames


def without_none(arguments: Arguments) -> Arguments:
    return {key: value for key, value in arguments.items() if value is not None}


def _shared(task: ImageTask | VideoTask, multiple: int) -> Arguments:
    return {
        "prompt": task.prompt,
        "negative_prompt": task.negative_prompt,
        "width": next_multiple(task.width, multiple),
        "height": next_multiple(task.height, multiple),
        "num_inference_steps": task.num_inference_steps,
        "guidance_scale": task.guidance_scale,
        **preset_arguments(task.step_caching, task.precision),
    }


def preset_arguments(caching: StepCaching | None, precision: Precision | None) -> Arguments:
    """What a preset of `quality` comes to. (SGLang's own `quality` has its least exact level named "high".)"""
    arguments: Arguments = {}
    if caching is not None and caching.method == "cache_dit":
        arguments = {"enable_cache_dit": True, "cache_dit_params": dict(caching.parameters) or None}
    elif caching is not None:
        arguments = {"enable_teacache": True}
    if precision is not None:
        arguments["quality"] = "high" if precision == "approximate" else precision
    return arguments
