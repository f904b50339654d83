"""What a media file says about how it was made. It must be the same in two runs of one request: no id, no time."""

import hashlib

from serve_app.engines.base import ImageOutput
from serve_app.tasks import DiffusionTask, ImageTask, StepCaching, VideoTask

SOFTWARE = "diffusion-serve"


def of_image(task: ImageTask, output: ImageOutput, *, model: str, seed: int) -> dict[str, str]:
    """The parameters of the one image that was drawn with `seed`; the same whether it came alone or among n.

    `model` is the deployment's own id, so that an adapter asked for by its model id leaves the same file as one that
    was named beside the model.
    """
    facts = _shared(task, model, output.step_caching)
    facts |= {"seed": seed, "steps": output.num_inference_steps, "guidance_scale": output.guidance_scale}
    if task.input_images:
        facts["input_sha256"] = " ".join(hashlib.sha256(image).hexdigest() for image in task.input_images)
        facts["mask_sha256"] = hashlib.sha256(task.mask).hexdigest() if task.mask is not None else None
    return _written(facts)


def of_video(task: VideoTask, image: bytes | None, last_frame: bytes | None, *, model: str) -> dict[str, str]:
    """The parameters of a video; its encoded first and last frame are told by their digests."""
    return _written(
        {
            **_shared(task, model, task.step_caching),
            "seed": task.seed,
            "steps": task.num_inference_steps,
            "guidance_scale": task.guidance_scale,
            "guidance_scale_2": task.guidance_scale_2,
            "boundary_ratio": task.boundary_ratio,
            "frames": task.num_frames,
            "fps": task.fps,
            "input_sha256": hashlib.sha256(image).hexdigest() if image is not None else None,
            "last_frame_sha256": hashlib.sha256(last_frame).hexdigest() if last_frame is not None else None,
        }
    )


def _shared(task: DiffusionTask, model: str, caching: StepCaching | None) -> dict[str, str | float | None]:
    """What an image and a video say alike."""
    adapters = ", ".join(f"{adapter.name}={adapter.scale:g}" for adapter in task.adapters)
    parameters = [] if caching is None else [f"{name}={value}" for name, value in sorted(caching.parameters.items())]
    return {
        "software": SOFTWARE,
        "model": model,
        "prompt": task.prompt,
        "negative_prompt": task.negative_prompt,
        "size": f"{task.width}x{task.height}",
        "adapters": adapters or None,
        "step_caching": None if caching is None else " ".join([caching.method, *parameters]),
        "precision": task.precision,
        **task.parameters,
    }


def _written(facts: dict[str, str | int | float | None]) -> dict[str, str]:
    return {name: str(value) for name, value in facts.items() if value is not None}
