"""FLUX.1 dev and schnell."""

from typing import Any

import torch

from serve_app.engines.diffusers.families.base import NoisedEdits, Size, decode_scaled
from serve_app.engines.diffusers.loading import Source
from serve_app.tasks import ImageTask

TRUE_CFG_SCALE = 4.0
"""Classifier-free guidance where there is a negative prompt: `guidance_scale` is FLUX's embedded guidance instead."""


class Flux1(NoisedEdits):
    name = "FLUX.1"
    classes = ("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline")
    since = "0.33"
    edits = "FluxImg2ImgPipeline"
    inpaints = "FluxInpaintPipeline"
    num_inference_steps = 28
    guidance_scale = 3.5
    parameters = NoisedEdits.parameters | {"true_cfg_scale"}

    def __init__(self, source: Source, class_name: str) -> None:
        super().__init__(source, class_name)
        if not self.pipeline.transformer.config.guidance_embeds:  # schnell, which is distilled to few steps
            self.num_inference_steps, self.guidance_scale = 4, 0.0

    def arguments(self, task: ImageTask) -> dict[str, Any]:
        return arguments_of_flux(self, task)

    def decode(self, latents: torch.Tensor, size: Size) -> torch.Tensor:
        return decode_flux(self.pipeline, latents, size)


def arguments_of_flux(family: Any, task: ImageTask) -> dict[str, Any]:
    """Guidance is an input of the transformer; a negative prompt adds the classifier-free kind at twice the work."""
    arguments: dict[str, Any] = {
        "guidance_scale": task.guidance_scale,
        "max_sequence_length": family.prompt_tokens(family.pipeline.tokenizer_2),
    }
    if task.negative_prompt is not None:
        scale = task.parameters.get("true_cfg_scale", TRUE_CFG_SCALE)
        arguments |= {"negative_prompt": task.negative_prompt, "true_cfg_scale": scale}
    return arguments


def decode_flux(pipeline: Any, latents: torch.Tensor, size: Size) -> torch.Tensor:
    """The pipelines pack 2x2 latent pixels to a token."""
    unpacked = pipeline._unpack_latents(latents, size.height, size.width, pipeline.vae_scale_factor)
    return decode_scaled(pipeline.vae, unpacked)
