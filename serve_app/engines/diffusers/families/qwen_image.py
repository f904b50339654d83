"""Qwen-Image."""

from typing import Any

import torch

from serve_app.engines.diffusers.families.base import NoisedEdits, Size
from serve_app.tasks import ImageTask

NOTHING = " "
"""The negative prompt that Qwen's own examples give: without one there is no guidance."""


class QwenImage(NoisedEdits):
    name = "Qwen-Image"
    classes = ("QwenImagePipeline", "QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline")
    since = "0.35"
    edits = "QwenImageImg2ImgPipeline"
    inpaints = "QwenImageInpaintPipeline"
    num_inference_steps = 50
    guidance_scale = 4.0

    def arguments(self, task: ImageTask) -> dict[str, Any]:
        return arguments_of_qwen(task)

    def decode(self, latents: torch.Tensor, size: Size) -> torch.Tensor:
        return decode_qwen(self.pipeline, latents, size)


def arguments_of_qwen(task: ImageTask) -> dict[str, Any]:
    """Its guidance is the classifier-free kind; what the pipelines call guidance_scale is for models yet to come."""
    return {"true_cfg_scale": task.guidance_scale, "negative_prompt": task.negative_prompt or NOTHING}


def decode_qwen(pipeline: Any, latents: torch.Tensor, size: Size) -> torch.Tensor:
    """Its autoencoder is one of videos, here of one frame, which tells a mean and a deviation of each channel."""
    config, vae = pipeline.vae.config, pipeline.vae
    unpacked = pipeline._unpack_latents(latents, size.height, size.width, pipeline.vae_scale_factor).to(vae.dtype)
    mean, deviation = (
        torch.tensor(values, device=unpacked.device, dtype=unpacked.dtype).view(1, -1, 1, 1, 1)
        for values in (config.latents_mean, config.latents_std)
    )
    return vae.decode(unpacked * deviation + mean, return_dict=False)[0][:, :, 0]
