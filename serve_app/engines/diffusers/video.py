"""Videos by diffusers' Wan pipelines: text to video, and image to video where the checkpoint can."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from numpy.typing import NDArray

from serve_app.engines.base import OnStep, Step, VideoOutput
from serve_app.engines.diffusers import loading, pictures
from serve_app.engines.diffusers.worker import Job, Worker
from serve_app.engines.shapes import next_frames, next_multiple
from serve_app.errors import InvalidRequest, UnsupportedParameter
from serve_app.model_settings import VideoSettings
from serve_app.tasks import ModelCard, VideoTask

LEAST_MULTIPLE = 16
"""The pipelines refuse other sizes, whatever the model could make."""


class DiffusersVideoEngine:
    """One or two pipelines over one set of weights, by what the checkpoint is.

    A checkpoint with `expand_timesteps` (Wan2.2-TI2V-5B) serves text-to-video and image-to-video; any other serves the
    one that its model_index.json names.
    """

    def __init__(self, settings: VideoSettings) -> None:
        loading.quiet()
        source = loading.source(settings)
        name = loading.pipeline_class(source, "video", ("WanPipeline", "WanImageToVideoPipeline"))
        cls = WanPipeline if name == "WanPipeline" else WanImageToVideoPipeline
        loaded = loading.load_pipeline(cls, source)
        both = bool(loaded.config.expand_timesteps)
        self._from_text: Any = _as(WanPipeline, loaded) if both or cls is WanPipeline else None
        self._from_image: Any = _as(WanImageToVideoPipeline, loaded) if both or cls is not WanPipeline else None
        experts = [expert for expert in (loaded.transformer, loaded.transformer_2) if expert is not None]
        self._two_experts = len(experts) > 1
        patch: tuple[int, int, int] = experts[0].config.patch_size
        self._multiple = next_multiple(loaded.vae_scale_factor_spatial * patch[1], LEAST_MULTIPLE)
        self._group: int = loaded.vae_scale_factor_temporal
        self._prompt_tokens = min(512, loaded.tokenizer.model_max_length)
        self._shapes = settings.warm_up_sizes or (
            (settings.defaults.width, settings.defaults.height, settings.defaults.num_frames),
        )
        self._worker = Worker("video-engine", source.threads(*experts, loaded.vae))
        capabilities = {"progress", "cancel"}
        if self._from_image is not None:
            capabilities.add("image_to_video")
        if self._two_experts:
            capabilities.add("two_experts")
        self.card = ModelCard(model=settings.id, kind="video", engine="diffusers", capabilities=frozenset(capabilities))

    async def generate(self, task: VideoTask, image: bytes | None, on_step: OnStep) -> VideoOutput:
        self._check(task, image)
        return await self._worker.run(lambda job: self._generate(task, image, job, on_step))

    async def warm_up(self) -> None:
        for width, height, frames in self._shapes:
            task = VideoTask(
                id="warm-up",
                model=self.card.model,
                prompt="warm up",
                width=width,
                height=height,
                num_frames=frames,
                fps=8,
                num_inference_steps=1,
                guidance_scale=1.0,
                seed=0,
            )
            image = None if self._from_text is not None else pictures.blank()
            await self.generate(task, image, lambda _: None)

    async def check_health(self) -> None:
        self._worker.check_health()

    def close(self) -> None:
        self._worker.close()

    def _check(self, task: VideoTask, image: bytes | None) -> None:
        """What this checkpoint can't do is refused by the name that the caller gave it."""
        if image is not None and self._from_image is None:
            raise UnsupportedParameter(
                f"The model '{self.card.model}' makes videos from text alone.", param="input_reference"
            )
        if image is None and self._from_text is None:
            raise InvalidRequest(f"The model '{self.card.model}' needs a first image.", param="input_reference")
        for name in ("boundary_ratio", "guidance_scale_2"):
            if getattr(task, name) is not None and not self._two_experts:
                raise UnsupportedParameter(
                    f"The model '{self.card.model}' has one expert; {name} is for models of two.", param=f"nvext.{name}"
                )

    def _generate(self, task: VideoTask, image: bytes | None, job: Job, on_step: OnStep) -> VideoOutput:
        clock = time.perf_counter()
        width, height = (next_multiple(side, self._multiple) for side in (task.width, task.height))
        pipeline = self._from_text if image is None else self._from_image
        arguments: dict[str, Any] = {
            "prompt": task.prompt,
            "negative_prompt": task.negative_prompt,
            "width": width,
            "height": height,
            "num_frames": next_frames(task.num_frames, self._group),
            "num_inference_steps": task.num_inference_steps,
            "guidance_scale": task.guidance_scale,
            "max_sequence_length": self._prompt_tokens,
            "generator": torch.Generator("cpu").manual_seed(task.seed),
        }
        if image is not None:
            arguments["image"] = pictures.pad(pictures.read(image, task.width, task.height), width, height)
        if self._two_experts:
            arguments["guidance_scale_2"] = task.guidance_scale_2

        def report(pipe: Any, step: int, timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
            job.check()
            job.post(on_step, Step(step + 1, pipe.num_timesteps))
            return {}

        with _boundary(pipeline, task.boundary_ratio):
            frames: NDArray[np.floating] = pipeline(**arguments, output_type="np", callback_on_step_end=report).frames
        pixels = pictures.to_pixels(frames[0][: task.num_frames, : task.height, : task.width])
        return VideoOutput(engine_s=time.perf_counter() - clock, frames=np.ascontiguousarray(pixels))


def _as(cls: Any, loaded: Any) -> Any:
    """A pipeline of `cls` over the parts of `loaded`, which may be one already."""
    pipeline = loaded
    if type(loaded) is not cls:
        of_images = {"image_encoder", "image_processor"}
        parts = {name: part for name, part in loaded.components.items() if name not in of_images}
        settings = {name: loaded.config[name] for name in ("boundary_ratio", "expand_timesteps")}
        pipeline = cls(**parts, **settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextmanager
def _boundary(pipeline: Any, ratio: float | None) -> Generator[None]:
    """Where one expert hands over to the other is the pipeline's configuration, so a request changes it for a while."""
    configured = pipeline.config.boundary_ratio
    if ratio is not None:
        pipeline.register_to_config(boundary_ratio=ratio)
    try:
        yield
    finally:
        pipeline.register_to_config(boundary_ratio=configured)
