"""Videos by diffusers' pipelines, one at a time in a thread. A family says which pipeline, and how it is called."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from serve_app.abilities import refuse_what_it_lacks
from serve_app.engines.base import OnStep, Step, VideoOutput
from serve_app.engines.diffusers import loading, pictures
from serve_app.engines.diffusers.adapters import Adapters
from serve_app.engines.diffusers.caching import cached, check_presets
from serve_app.engines.diffusers.families import find_family
from serve_app.engines.diffusers.families.base import Size, VideoFamily
from serve_app.engines.diffusers.worker import Run, Worker
from serve_app.engines.shapes import next_frames, next_multiple
from serve_app.errors import InvalidRequest
from serve_app.model_settings import VideoSettings
from serve_app.tasks import ModelCard, VideoTask


class DiffusersVideoEngine:
    """One family's pipelines over one set of weights."""

    def __init__(self, settings: VideoSettings) -> None:
        loading.quiet()
        source = loading.source(settings)
        family, class_name = find_family(VideoFamily, source, "video")
        self._family = family(source, class_name)
        self._adapters = Adapters(self._family.pipeline, settings.adapters)
        check_presets(filter(None, (self._family.from_text, self._family.from_image)), settings)
        self._most_steps = settings.limits.steps
        self._shapes = settings.warm_up_sizes or (
            (settings.defaults.width, settings.defaults.height, settings.defaults.num_frames),
        )
        self._worker = Worker("video-engine", source.threads(*self._family.modules))
        self.card = ModelCard(
            model=settings.id,
            kind="video",
            engine="diffusers",
            capabilities=self._family.capabilities | {"progress", "cancel"},
            parameters=self._family.parameters,
        )

    async def generate(
        self, task: VideoTask, image: bytes | None, on_step: OnStep, *, last_frame: bytes | None = None
    ) -> VideoOutput:
        images = [each for each in (image, last_frame) if each is not None]
        refuse_what_it_lacks(task, self.card, images=len(images))
        if not images and self._family.from_text is None:
            raise InvalidRequest(f"The model '{self.card.model}' needs a first image.", param="input_reference")
        if last_frame is None and self._family.needs_last_frame:
            raise InvalidRequest(f"The model '{self.card.model}' needs a last frame.", param="last_frame")
        filled = self._family.fill(task, self._most_steps)
        return await self._worker.run(lambda run: self._generate(filled, images, run, on_step))

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
            image = None if self._family.from_text is not None else pictures.blank()
            last = pictures.blank() if self._family.needs_last_frame else None
            await self.generate(task, image, lambda _: None, last_frame=last)

    async def check_health(self) -> None:
        self._worker.check_health()

    def close(self) -> None:
        self._worker.close()

    def _generate(self, task: VideoTask, images: list[bytes], run: Run, on_step: OnStep) -> VideoOutput:
        clock = time.perf_counter()
        family = self._family
        self._adapters.apply(task.adapters)
        size = Size(next_multiple(task.width, family.multiple), next_multiple(task.height, family.multiple))
        given = [pictures.pad(pictures.read(each, task.width, task.height), size.width, size.height) for each in images]
        call = family.plan(task, size, next_frames(task.num_frames, family.group), given)

        def report(pipe: Any, step: int, timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
            run.check()
            run.post(on_step, Step(step + 1, pipe.num_timesteps))
            return {}

        with family.configured(call, task), cached(call.pipeline, task.step_caching):
            frames: NDArray[np.floating] = call.pipeline(
                **call.arguments,
                generator=torch.Generator("cpu").manual_seed(task.seed),
                output_type="np",
                callback_on_step_end=report,
            ).frames
        assert task.guidance_scale is not None, "guidance is filled"
        pixels = pictures.to_pixels(frames[0][: task.num_frames, : task.height, : task.width])
        return VideoOutput(
            engine_s=time.perf_counter() - clock,
            frames=np.ascontiguousarray(pixels),
            num_inference_steps=call.steps,
            guidance_scale=task.guidance_scale,
        )
