"""Stable Diffusion 3 and 3.5."""

from typing import Any

from serve_app.engines.diffusers.families.base import NoisedEdits
from serve_app.tasks import ImageTask


class StableDiffusion3(NoisedEdits):
    name = "Stable Diffusion 3"
    classes = ("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline")
    since = "0.33"
    edits = "StableDiffusion3Img2ImgPipeline"
    inpaints = "StableDiffusion3InpaintPipeline"
    num_inference_steps = 28
    guidance_scale = 7.0

    @property
    def multiple(self) -> int:
        return self.pipeline.vae_scale_factor * self.pipeline.patch_size

    def arguments(self, task: ImageTask) -> dict[str, Any]:
        return super().arguments(task) | {"max_sequence_length": self.prompt_tokens(self.pipeline.tokenizer_3, 256)}
