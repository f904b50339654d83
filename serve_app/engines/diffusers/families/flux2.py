"""FLUX.2 dev and klein: draw from text, and from up to ten images."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import AutoTokenizer

from serve_app.engines.diffusers.families.base import Call, ReferenceEdits, Size
from serve_app.engines.diffusers.loading import Source
from serve_app.errors import InvalidRequest
from serve_app.tasks import ImageTask

MOST_MASKED = 1024 * 1024
"""The pipeline that takes a mask draws no more pixels than these."""
MOST_ASPECT = 8
"""The pipelines refuse longer images."""


class Flux2(ReferenceEdits):
    """dev takes its guidance as an input, klein guides by an empty prompt, where it is not distilled: neither takes a
    negative prompt.
    """

    name = "FLUX.2"
    classes = ("Flux2Pipeline",)
    since = "0.36"
    num_inference_steps = 50
    guidance_scale = 4.0
    negative_prompt = False
    input_images = 10

    def load_parts(self, source: Source) -> dict[str, Any]:
        # its processor, PixtralProcessor, is there for images in prompts and imports torchvision
        return {"tokenizer": AutoTokenizer.from_pretrained(source.model, subfolder="tokenizer", **source.hub_arguments)}

    def prepare(self, image: Image.Image) -> Image.Image:
        if max(image.size) > MOST_ASPECT * min(image.size):
            raise InvalidRequest(
                f"An input image is {image.width}x{image.height}; the longer side may be {MOST_ASPECT} times the "
                "shorter at most.",
                param="image",
            )
        return super().prepare(image)

    def decode(self, latents: torch.Tensor, size: Size) -> torch.Tensor:
        pipeline = self.pipeline
        height, width = size.height // self.multiple, size.width // self.multiple
        norm = pipeline.vae.bn
        unpacked = latents.transpose(1, 2).unflatten(2, (height, width)).to(pipeline.vae.dtype)
        deviation = torch.sqrt(norm.running_var.view(1, -1, 1, 1) + pipeline.vae.config.batch_norm_eps)
        unpatched = pipeline._unpatchify_latents(unpacked * deviation + norm.running_mean.view(1, -1, 1, 1))
        return pipeline.vae.decode(unpatched, return_dict=False)[0]

    def arguments(self, task: ImageTask) -> dict[str, Any]:
        return {"guidance_scale": task.guidance_scale}


class Flux2Klein(Flux2):
    name = "FLUX.2 klein"
    classes = ("Flux2KleinPipeline",)
    since = "0.38"
    inpaints = "Flux2KleinInpaintPipeline"
    input_images = 4

    def __init__(self, source: Source, class_name: str) -> None:
        super().__init__(source, class_name)
        if self.pipeline.config.is_distilled:
            self.num_inference_steps, self.guidance_scale = 4, 1.0

    def load_parts(self, source: Source) -> dict[str, Any]:
        del source
        return {}

    def plan_inpainting(
        self, call: Call, task: ImageTask, size: Size, mask: Image.Image, references: Sequence[Image.Image]
    ) -> Call:
        if size.width * size.height > MOST_MASKED:
            raise InvalidRequest(f"With a mask, this model draws {MOST_MASKED} pixels at most.", param="size")
        return super().plan_inpainting(call, task, size, mask, references)
