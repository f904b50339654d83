"""LTX-Video: text to video, and image to video by a first frame, from 0.9.5 on by a last one too."""

from collections.abc import Sequence
from typing import Any

from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from PIL import Image

from serve_app.engines.diffusers.families.base import Call, Size, VideoFamily
from serve_app.engines.diffusers.loading import Source
from serve_app.tasks import VideoTask

CONDITIONED = "LTXConditionPipeline"
PROMPT_TOKENS = 256


class LTXVideo(VideoFamily):
    name = "LTX-Video"
    classes = ("LTXPipeline", "LTXImageToVideoPipeline", CONDITIONED)
    since = "0.33"
    guidance_scale = 3.0

    def __init__(self, source: Source, class_name: str) -> None:
        super().__init__(source, class_name)
        self.last_frame = class_name == CONDITIONED
        self.from_text = self.view_as(CONDITIONED if self.last_frame else "LTXPipeline")
        self.from_image = self.view_as(CONDITIONED if self.last_frame else "LTXImageToVideoPipeline")
        self.multiple = self.pipeline.vae_spatial_compression_ratio
        self.group = self.pipeline.vae_temporal_compression_ratio

    def arguments(self, task: VideoTask) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "frame_rate": task.fps,
            "max_sequence_length": self.prompt_tokens(self.pipeline.tokenizer, PROMPT_TOKENS),
        }
        if self.pipeline.vae.config.timestep_conditioning:  # its decoder takes the last noise out
            arguments |= {"decode_timestep": 0.05, "decode_noise_scale": 0.025}
        return arguments

    def plan(self, task: VideoTask, size: Size, frames: int, images: Sequence[Image.Image]) -> Call:
        call = super().plan(task, size, frames, images)
        if images and self.last_frame:
            for name in ("image", "last_image"):
                call.arguments.pop(name, None)
            places = (0, frames - 1)
            call.arguments["conditions"] = [
                LTXVideoCondition(image=image, frame_index=place) for image, place in zip(images, places, strict=False)
            ]
        return call
