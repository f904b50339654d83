"""Wan 2.1 and 2.2: text to video, image to video by first and last frame, one expert or two."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from serve_app.engines.diffusers.families.base import Call, T, VideoFamily
from serve_app.engines.diffusers.loading import Source
from serve_app.engines.pictures import next_multiple
from serve_app.tasks import VideoTask

LEAST_MULTIPLE = 16
"""The pipelines refuse other sizes, whatever the model could make."""
FROM_TEXT, FROM_IMAGE = "WanPipeline", "WanImageToVideoPipeline"


class Wan(VideoFamily):
    """A checkpoint with `expand_timesteps` (Wan2.2-TI2V-5B) makes videos from text and from images; any other does the
    one that its model_index.json names.
    """

    name = "Wan 2.1 and 2.2"
    classes = (FROM_TEXT, FROM_IMAGE)
    since = "0.35"

    def __init__(self, source: Source, class_name: str) -> None:
        super().__init__(source, class_name)
        pipeline = self.pipeline
        both = bool(pipeline.config.expand_timesteps)
        if both or class_name == FROM_TEXT:
            self.from_text = self.view_as(FROM_TEXT)
        if both or class_name == FROM_IMAGE:
            self.from_image = self.view_as(FROM_IMAGE)
        config = (pipeline.transformer or pipeline.transformer_2).config
        self.needs_last_frame = config.pos_embed_seq_len is not None  # FLF2V
        sees_one = both or (config.image_dim is not None and not self.needs_last_frame)
        self.last_frame = self.from_image is not None and not sees_one
        experts = [expert for expert in (pipeline.transformer, pipeline.transformer_2) if expert is not None]
        self.two_experts = len(experts) > 1
        if self.two_experts:
            self.num_inference_steps = 40
            self.guidance_scale, self.guidance_scale_2 = (4.0, 3.0) if class_name == FROM_TEXT else (3.5, 3.5)
        self.parameters = frozenset({"flow_shift"} & set(pipeline.scheduler.config))
        patch: tuple[int, int, int] = experts[0].config.patch_size
        self.multiple = next_multiple(pipeline.vae_scale_factor_spatial * patch[1], LEAST_MULTIPLE)
        self.group: int = pipeline.vae_scale_factor_temporal

    @property
    def capabilities(self) -> frozenset[str]:
        return super().capabilities | ({"two_experts"} if self.two_experts else set())

    def fill(self, task: T, most_steps: int) -> T:
        if self.two_experts and isinstance(task, VideoTask) and task.guidance_scale is None:
            second = self.guidance_scale_2 if task.guidance_scale_2 is None else task.guidance_scale_2
            task = replace(task, guidance_scale_2=second)
        return super().fill(task, most_steps)

    def arguments(self, task: VideoTask) -> dict[str, Any]:
        arguments: dict[str, Any] = {"max_sequence_length": self.prompt_tokens(self.pipeline.tokenizer)}
        if self.two_experts:
            arguments["guidance_scale_2"] = task.guidance_scale_2
        return arguments

    @contextmanager
    def configured(self, call: Call, task: VideoTask) -> Generator[None]:
        """Where one expert hands over to the other is the pipeline's configuration, and how its steps are spread the
        scheduler's: they change for a while.
        """
        pipeline, scheduler = call.pipeline, call.pipeline.scheduler
        boundary, shift = pipeline.config.boundary_ratio, scheduler.config.get("flow_shift")
        if task.boundary_ratio is not None:
            pipeline.register_to_config(boundary_ratio=task.boundary_ratio)
        if self.parameters:
            scheduler.register_to_config(flow_shift=task.parameters.get("flow_shift", shift))
        try:
            yield
        finally:
            pipeline.register_to_config(boundary_ratio=boundary)
            if self.parameters:
                scheduler.register_to_config(flow_shift=shift)
