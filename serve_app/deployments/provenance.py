"""What a media file says of its own making. Nothing here may differ between two runs of one request: no id, no time."""

from __future__ import annotations

import hashlib

from serve_app.tasks import ImageTask, VideoTask

SOFTWARE = "diffusion-serve"


def of_image(task: ImageTask, *, seed: int, steps: int, guidance_scale: float) -> dict[str, str]:
    """The parameters of the one image that was drawn with `seed`; the same whether it came alone or among n."""
    facts = {
        "software": SOFTWARE,
        "model": task.model,
        "prompt": task.prompt,
        "negative_prompt": task.negative_prompt,
        "seed": seed,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "size": f"{task.width}x{task.height}",
    }
    if task.input_image is not None:
        facts["input_sha256"] = hashlib.sha256(task.input_image).hexdigest()
        facts["mask_sha256"] = hashlib.sha256(task.mask).hexdigest() if task.mask is not None else None
        facts["strength"] = task.strength
    return _written(facts)


def of_video(task: VideoTask, *, image: bytes | None) -> dict[str, str]:
    """The parameters of a video; `image` is its encoded first frame, told by its digest."""
    return _written(
        {
            "software": SOFTWARE,
            "model": task.model,
            "prompt": task.prompt,
            "negative_prompt": task.negative_prompt,
            "seed": task.seed,
            "steps": task.num_inference_steps,
            "guidance_scale": task.guidance_scale,
            "guidance_scale_2": task.guidance_scale_2,
            "boundary_ratio": task.boundary_ratio,
            "size": f"{task.width}x{task.height}",
            "frames": task.num_frames,
            "fps": task.fps,
            "input_sha256": hashlib.sha256(image).hexdigest() if image is not None else None,
        }
    )


def _written(facts: dict[str, str | int | float | None]) -> dict[str, str]:
    return {name: str(value) for name, value in facts.items() if value is not None}
