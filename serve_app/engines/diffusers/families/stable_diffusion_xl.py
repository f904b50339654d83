"""Stable Diffusion XL."""

from PIL import Image

from serve_app.engines.diffusers.families.base import Call, NoisedEdits, Size
from serve_app.tasks import ImageTask


class StableDiffusionXL(NoisedEdits):
    name = "Stable Diffusion XL"
    classes = ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline")
    since = "0.33"
    edits = "StableDiffusionXLImg2ImgPipeline"
    inpaints = "StableDiffusionXLInpaintPipeline"

    @property
    def multiple(self) -> int:
        return self.pipeline.vae_scale_factor

    def plan(self, task: ImageTask, size: Size, mask: Image.Image | None) -> Call:
        call = super().plan(task, size, mask)
        if task.input_images:
            # these pipelines round the steps of an edit down, where the others round them up
            call.arguments["strength"] = min(1.0, (call.steps + 0.5) / call.arguments["num_inference_steps"])
            if mask is None:  # the image says the size
                del call.arguments["width"], call.arguments["height"]
        return call
