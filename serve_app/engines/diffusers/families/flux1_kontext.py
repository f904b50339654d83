"""FLUX.1 Kontext: draws from text, and edits an image by looking at it."""

from typing import Any

import torch
from PIL import Image

from serve_app.engines.diffusers.families.base import Call, ReferenceEdits, Size
from serve_app.engines.diffusers.families.flux1 import arguments_of_flux, decode_flux
from serve_app.tasks import ImageTask


class Flux1Kontext(ReferenceEdits):
    name = "FLUX.1 Kontext"
    classes = ("FluxKontextPipeline",)
    since = "0.36"
    inpaints = "FluxKontextInpaintPipeline"
    num_inference_steps = 28
    guidance_scale = 3.5
    parameters = frozenset({"true_cfg_scale"})

    def arguments(self, task: ImageTask) -> dict[str, Any]:
        return arguments_of_flux(self, task)

    def plan(self, task: ImageTask, size: Size, mask: Image.Image | None) -> Call:
        call = super().plan(task, size, mask)
        call.arguments["max_area"] = size.width * size.height  # or it draws a megapixel of this shape
        if mask is not None:
            call.arguments["_auto_resize"] = False  # as above
        return call

    def decode(self, latents: torch.Tensor, size: Size) -> torch.Tensor:
        return decode_flux(self.pipeline, latents, size)
