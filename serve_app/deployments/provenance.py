"""What a media file says about how it was made. It must be the same in two runs of one request: no id, no time."""

import hashlib
from dataclasses import replace

from serve_app.engines.base import ImageOutput
from serve_app.tasks import DiffusionTask, ImageTask, VideoTask


def of_image(task: ImageTask, output: ImageOutput, *, model: str, seed: int) -> dict[str, str]:
    """The parameters of the one image that was drawn with `seed`; the same whether it came alone or among n.

    `model` is the deployment's own id, so that an adapter asked for by its model id leaves the same file as one that
    was named beside the model.
    """
    steps, guidance = output.num_inference_steps, output.guidance_scale
    task = replace(
        task, seed=seed, num_inference_steps=steps, guidance_scale=guidance, step_caching=output.step_caching
    )
    images = " ".join(filter(None, map(_digest, task.input_images))) or None
    return _tell(task, model, input_sha256=images, mask_sha256=_digest(task.mask))


def of_video(task: VideoTask, image: bytes | None, last_frame: bytes | None, *, model: str) -> dict[str, str]:
    """The parameters of a video; its encoded first and last frame are told by their digests."""
    return _tell(
        task,
        model,
        guidance_scale_2=task.guidance_scale_2,
        boundary_ratio=task.boundary_ratio,
        frames=task.num_frames,
        fps=task.fps,
        input_sha256=_digest(image),
        last_frame_sha256=_digest(last_frame),
    )


def _tell(task: DiffusionTask, model: str, **facts: str | float | None) -> dict[str, str]:
    """What an image and a video say alike, and these `facts`; what is None is not told."""
    caching = task.step_caching
    parameters = [] if caching is None else [f"{name}={value}" for name, value in sorted(caching.parameters.items())]
    told = {
        "software": "diffusion-serve",
        "model": model,
        "prompt": task.prompt,
        "negative_prompt": task.negative_prompt,
        "size": f"{task.width}x{task.height}",
        "seed": task.seed,
        "steps": task.num_inference_steps,
        "guidance_scale": task.guidance_scale,
        "adapters": ", ".join(f"{adapter.name}={adapter.scale:g}" for adapter in task.adapters) or None,
        "step_caching": None if caching is None else " ".join([caching.method, *parameters]),
        "precision": task.precision,
        **task.parameters,
        **facts,
    }
    return {name: str(value) for name, value in told.items() if value is not None}


def _digest(data: bytes | None) -> str | None:
    return None if data is None else hashlib.sha256(data).hexdigest()
