"""Z-Image and Z-Image-Turbo."""

from serve_app.engines.diffusers.families.base import NoisedEdits
from serve_app.engines.diffusers.loading import Source

TURBO_SHIFT = 3.0
"""Nothing but the scheduler's shift tells the distilled checkpoint from the other, whose shift is 6."""


class ZImage(NoisedEdits):
    name = "Z-Image"
    classes = ("ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline")
    since = "0.37"
    edits = "ZImageImg2ImgPipeline"
    inpaints = "ZImageInpaintPipeline"
    num_inference_steps = 50
    guidance_scale = 4.0

    def __init__(self, source: Source, class_name: str) -> None:
        super().__init__(source, class_name)
        if self.pipeline.scheduler.config.shift == TURBO_SHIFT:
            self.num_inference_steps, self.guidance_scale = 9, 0.0
