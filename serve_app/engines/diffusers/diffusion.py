"""Images and videos by diffusers' pipelines, one at a time in a thread. A family says which, and how it is called."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from serve_app.capabilities import refuse_what_it_lacks
from serve_app.engines import pictures
from serve_app.engines.base import ImageOutput, OnStep, Step, VideoOutput
from serve_app.engines.diffusers import loading
from serve_app.engines.diffusers.adapters import Adapters
from serve_app.engines.diffusers.caching import cached, can_cache, check_presets
from serve_app.engines.diffusers.families import find_family
from serve_app.engines.diffusers.families.base import Call, ImageFamily, Size, VideoFamily
from serve_app.engines.diffusers.worker import Run, Worker
from serve_app.engines.prompts import PromptCounter
from serve_app.errors import InvalidRequest
from serve_app.media.images import Pixels
from serve_app.model_settings import ImageSettings, VideoSettings
from serve_app.tasks import ImageTask, ModelCard, StepCaching, VideoTask

F = TypeVar("F", ImageFamily, VideoFamily)


class DiffusersDiffusion(Generic[F]):
    """What the two share: one family's pipelines over one set of weights, and the thread that they run in."""

    def __init__(self, settings: ImageSettings | VideoSettings, base: type[F]) -> None:
        loading.quiet()
        source = loading.Source(settings)
        family, class_name = find_family(base, source, settings.kind)
        self._family: F = family(source, class_name)
        self._adapters = Adapters(self._family.pipeline, settings.adapters)
        check_presets(self._family.pipelines, settings)
        self._most_steps = settings.limits.steps
        self._worker = Worker(f"{settings.kind}-engine", source.threads(*self._family.modules))
        self.card = ModelCard(
            model=settings.id,
            kind=settings.kind,
            engine="diffusers",
            capabilities=self._family.capabilities | {"progress", "cancel"},
            input_images=self._family.input_images,
            parameters=self._family.parameters,
        )

    async def check_health(self) -> None:
        self._worker.check_health()

    def close(self) -> None:
        self._worker.close()


class DiffusersImageEngine(DiffusersDiffusion[ImageFamily]):
    """Images, and edits of images."""

    def __init__(self, settings: ImageSettings) -> None:
        super().__init__(settings, ImageFamily)
        parts: dict[str, Any] = self._family.pipeline.components
        self._prompts = PromptCounter([part for name, part in parts.items() if name.startswith("tokenizer")])
        self._warm_up_tasks = settings.warm_up_tasks(1)

    async def generate(self, task: ImageTask, on_step: OnStep) -> ImageOutput:
        refuse_what_it_lacks(task, self.card)
        if self._family.needs_image and not task.input_images:
            raise InvalidRequest(f"The model '{self.card.model}' edits images: send one.", param="image")
        filled = self._family.fill(task, self._most_steps)
        return await self._worker.run(lambda run: self._generate(filled, run, on_step))

    async def warm_up(self) -> None:
        images = (pictures.blank(),) if self._family.needs_image else ()
        for task in self._warm_up_tasks:
            await self.generate(replace(task, input_images=images), lambda _: None)

    def _generate(self, task: ImageTask, run: Run, on_step: OnStep) -> ImageOutput:
        self._adapters.apply(task.adapters)
        drawing = _Drawing(self._family, task, Size.of(task, self._family.multiple), run, on_step)
        seeds = [task.seed + index for index in range(task.n)]
        # one at a time: a picture must not depend on how many are drawn beside it
        pixels = [drawing.draw(index, seed) for index, seed in enumerate(seeds)]
        return ImageOutput(
            pixels=pixels,
            seeds=seeds,
            num_inference_steps=task.num_inference_steps or 0,
            guidance_scale=task.guidance_scale or 0.0,
            step_caching=drawing.step_caching,
            prompt_tokens=self._prompts.count(task.prompt),
        )


class DiffusersVideoEngine(DiffusersDiffusion[VideoFamily]):
    """Videos, from text or from images."""

    def __init__(self, settings: VideoSettings) -> None:
        super().__init__(settings, VideoFamily)
        self._warm_up_tasks = settings.warm_up_tasks(1)

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
        image = None if self._family.from_text is not None else pictures.blank()
        last = pictures.blank() if self._family.needs_last_frame else None
        for task in self._warm_up_tasks:
            await self.generate(task, image, lambda _: None, last_frame=last)

    def _generate(self, task: VideoTask, images: list[bytes], run: Run, on_step: OnStep) -> VideoOutput:
        family = self._family
        self._adapters.apply(task.adapters)
        size = Size.of(task, family.multiple)
        given = [pictures.pad(pictures.read(each, task.width, task.height), size.width, size.height) for each in images]
        call = family.plan(task, size, pictures.next_frames(task.num_frames, family.group), given)

        def report(pipe: Any, step: int, timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
            run.check()
            run.post(on_step, Step(step + 1, pipe.num_timesteps))
            return {}

        with family.configured(call, task):
            frames: NDArray[np.floating] = _run(call, task.seed, task.step_caching, report).frames
        pixels = pictures.to_pixels(frames[0][: task.num_frames, : task.height, : task.width])
        return VideoOutput(
            frames=np.ascontiguousarray(pixels),
            num_inference_steps=call.steps,
            guidance_scale=task.guidance_scale or 0.0,
        )


@dataclass
class _Drawing:
    """Everything about the images of one task but their seeds."""

    _family: ImageFamily
    _task: ImageTask
    _size: Size
    _run: Run
    _on_step: OnStep
    _mask: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        task, painted = self._task, None
        if task.mask is not None:
            self._mask = pictures.read_mask(task.mask, task.width, task.height)
            painted = Image.fromarray(self._mask.astype(np.uint8) * 255)
        self._call: Call = self._family.plan(task, self._size, painted)
        if self._mask is not None:
            self._kept = np.asarray(self._call.arguments["image"])[: task.height, : task.width]
        self._total = self._call.steps * task.n
        self._wanted = pictures.spread(task.partial_images, self._total)
        self.step_caching = task.step_caching if task.step_caching and can_cache(self._call.pipeline) else None

    def draw(self, index: int, seed: int) -> Pixels:
        """Image `index`; its steps are told as part of those of all images, with previews where they are wanted."""
        with self._family.previewing(self._call.pipeline, self._size) as look:

            def report(_: object, step: int, timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
                self._run.check()
                done = index * self._call.steps + step + 1
                preview = self.finish(look(tensors["latents"])) if done in self._wanted else None
                self._run.post(self._on_step, Step(done, self._total, preview))
                return {}

            images: NDArray[np.floating] = _run(self._call, seed, self.step_caching, report).images
        return self.finish(pictures.to_pixels(images[0]))

    def finish(self, pixels: Pixels) -> Pixels:
        """Cropped to the size asked for; outside of the mask the pixels of the input."""
        pixels = np.ascontiguousarray(pixels[: self._task.height, : self._task.width])
        return pixels if self._mask is None else np.where(self._mask[..., None], pixels, self._kept)


def _run(call: Call, seed: int, caching: StepCaching | None, report: Callable[..., dict[str, Any]]) -> Any:
    """What the pipeline makes; it calls `report` after each step."""
    generator = torch.Generator("cpu").manual_seed(seed)
    with cached(call.pipeline, caching) if caching else nullcontext():
        return call.pipeline(**call.arguments, generator=generator, output_type="np", callback_on_step_end=report)
