"""Images by diffusers' FLUX pipelines: text to image, image to image, and inpainting where a mask is given."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import FluxImg2ImgPipeline, FluxInpaintPipeline, FluxPipeline
from numpy.typing import NDArray
from PIL import Image

from serve_app.engines.base import ImageOutput, OnStep, Pixels, Step
from serve_app.engines.diffusers import loading, pictures
from serve_app.engines.diffusers.previews import Preview
from serve_app.engines.diffusers.worker import Job, Worker
from serve_app.engines.shapes import next_multiple, spread
from serve_app.model_settings import ImageSettings
from serve_app.tasks import ImageTask, ModelCard

TRUE_CFG_SCALE = 4.0
"""Classifier-free guidance where there is a negative prompt: `guidance_scale` is FLUX's embedded guidance instead."""


class DiffusersImageEngine:
    """Three pipelines over one set of weights."""

    def __init__(self, settings: ImageSettings) -> None:
        loading.quiet()
        source = loading.source(settings)
        loading.pipeline_class(source, "image", ("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline"))
        self._draw = loading.load_pipeline(FluxPipeline, source)
        self._edit: Any = FluxImg2ImgPipeline(**self._draw.components)
        self._inpaint: Any = FluxInpaintPipeline(**self._draw.components)
        for pipeline in (self._draw, self._edit, self._inpaint):
            pipeline.set_progress_bar_config(disable=True)
        self._multiple: int = self._draw.vae_scale_factor * 2
        self._sizes = settings.warm_up_sizes or ((settings.defaults.width, settings.defaults.height),)
        self._worker = Worker("image-engine", source.threads(self._draw.transformer, self._draw.vae))
        self.card = ModelCard(
            model=settings.id,
            kind="image",
            engine="diffusers",
            capabilities=frozenset({"previews", "edit", "mask", "progress", "cancel"}),
        )

    async def generate(self, task: ImageTask, on_step: OnStep) -> ImageOutput:
        return await self._worker.run(lambda job: self._generate(task, job, on_step))

    async def warm_up(self) -> None:
        for width, height in self._sizes:
            task = ImageTask(
                id="warm-up",
                model=self.card.model,
                prompt="warm up",
                width=width,
                height=height,
                num_inference_steps=1,
                guidance_scale=3.5,
                seed=0,
            )
            await self.generate(task, lambda _: None)

    async def check_health(self) -> None:
        self._worker.check_health()

    def close(self) -> None:
        self._worker.close()

    def _generate(self, task: ImageTask, job: Job, on_step: OnStep) -> ImageOutput:
        clock = time.perf_counter()
        call = self._call(task)
        total = call.steps * task.n
        wanted = spread(task.partial_images, total)
        seeds = [task.seed + index for index in range(task.n)]
        pixels: list[Pixels] = []
        for index, seed in enumerate(seeds):

            def report(step: int, look: Callable[[], Pixels], before: int = index * call.steps) -> None:
                job.check()
                preview = call.finish(look()) if before + step in wanted else None
                job.post(on_step, Step(before + step, total, preview))

            # one at a time: a picture must not depend on how many are drawn beside it
            pixels.append(call.draw(seed, report))
        return ImageOutput(
            pixels=pixels,
            seeds=seeds,
            num_inference_steps=task.num_inference_steps,
            guidance_scale=task.guidance_scale,
            engine_s=time.perf_counter() - clock,
        )

    def _call(self, task: ImageTask) -> _Call:
        width, height = (next_multiple(side, self._multiple) for side in (task.width, task.height))
        arguments: dict[str, Any] = {
            "prompt": task.prompt,
            "width": width,
            "height": height,
            "num_inference_steps": task.num_inference_steps,
            "guidance_scale": task.guidance_scale,
            "max_sequence_length": min(512, self._draw.tokenizer_2.model_max_length),
        }
        if task.negative_prompt is not None:
            arguments |= {"negative_prompt": task.negative_prompt, "true_cfg_scale": TRUE_CFG_SCALE}
        if task.input_image is None:
            return _Call(self._draw, arguments, task, task.num_inference_steps)
        strength = max(task.strength, 1 / task.num_inference_steps)
        steps = task.num_inference_steps - int(max(0, task.num_inference_steps * (1 - strength)))
        source = pictures.read(task.input_image, task.width, task.height)
        arguments |= {"image": pictures.pad(source, width, height), "strength": strength}
        if task.mask is None:
            return _Call(self._edit, arguments, task, steps)
        mask = pictures.read_mask(task.mask, task.width, task.height)
        painted = Image.fromarray(mask.astype(np.uint8) * 255)
        arguments |= {"mask_image": pictures.pad(painted, width, height)}
        return _Call(self._inpaint, arguments, task, steps, kept=np.asarray(source), mask=mask)


class _Call:
    """A pipeline with its arguments: everything about the images of one task but their seeds."""

    def __init__(
        self,
        pipeline: Any,
        arguments: dict[str, Any],
        task: ImageTask,
        steps: int,
        kept: Pixels | None = None,
        mask: NDArray[np.bool_] | None = None,
    ) -> None:
        self.steps = steps
        self._pipeline = pipeline
        self._arguments = arguments
        self._task = task
        self._kept = kept
        self._mask = mask

    def draw(self, seed: int, report: Callable[[int, Callable[[], Pixels]], None]) -> Pixels:
        """One image; `report` gets each step from 1 on, and a function that shows the image as it stands."""
        with Preview(self._pipeline, self._arguments["width"], self._arguments["height"]) as preview:

            def on_step(pipeline: object, step: int, timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
                report(step + 1, lambda: preview.look(tensors["latents"]))
                return {}

            images: NDArray[np.floating] = self._pipeline(
                **self._arguments,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="np",
                callback_on_step_end=on_step,
            ).images
        return self.finish(pictures.to_pixels(images[0]))

    def finish(self, pixels: Pixels) -> Pixels:
        """Cropped to the size asked for; outside of the mask the pixels of the input."""
        pixels = np.ascontiguousarray(pixels[: self._task.height, : self._task.width])
        if self._kept is None or self._mask is None:
            return pixels
        return np.where(self._mask[..., None], pixels, self._kept)
