"""The image deployment: a diffusion model behind Serve, its encoders and the store. Knows no HTTP.

The engine is held only while it draws: encoding and storing go on beside the next generation.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from serve_app.deployments import provenance
from serve_app.deployments.generation import COMPLETED, Record, generation
from serve_app.deployments.replica import ModelDeployment
from serve_app.engines.base import ImageEngine, ImageOutput, OnStep, Pixels, Step
from serve_app.engines.load import load_image
from serve_app.media.images import check_encoders, encode_image
from serve_app.model_settings import ImageSettings
from serve_app.settings import Settings
from serve_app.storage import check_store
from serve_app.tasks import GeneratedImage, ImageEvent, ImagePreview, ImageResult, ImageTask, Timing
from serve_app.waiting import follow


class ImageDeployment(ModelDeployment[ImageEngine]):
    """One generation at a time."""

    def __init__(self, settings: Settings, name: str = "image") -> None:
        super().__init__(settings, name, ImageSettings, load_image)

    async def generate(self, task: ImageTask) -> ImageResult:
        """Draws, encodes and stores. Cancelling it stops the engine within a denoising step."""
        return await self._generate(task, _ignore)

    async def stream(self, task: ImageTask) -> AsyncGenerator[ImageEvent]:
        """Encoded previews as they come, and the ImageResult last. Closing it stops the engine."""
        index = 0

        async def draw(emit: Callable[[Step | ImageResult], None]) -> None:
            emit(await self._generate(task, emit))

        async with aclosing(follow(draw)) as events:
            async for event in events:
                if isinstance(event, ImageResult):
                    yield event
                elif event.preview is not None and index < task.partial_images:
                    data = await self._encoded(task, event.preview, None)
                    yield ImagePreview(index=index, step=event.step, total=event.total, data=data)
                    index += 1

    async def _probe(self) -> None:
        await check_store(self._store, self._settings.media.root)
        await asyncio.to_thread(check_encoders)

    async def _generate(self, task: ImageTask, on_step: OnStep) -> ImageResult:
        with generation(self._name, task, self._ledger) as record:
            record.steps = task.num_inference_steps or 0
            async with self._slot.turn() as turn:
                try:
                    async with self._slot.until(self._slot.deadline()):
                        output = await self._slot.engine.generate(task, on_step)
                finally:
                    # cancelled and failed generations used the device too
                    record.timing = turn.timing(task.submitted_at, turn.held_s)
            record.timing = turn.timing(task.submitted_at, output.engine_s)
            record.steps = output.num_inference_steps
            images, record.timing = await self._delivered(task, output, record.timing)
            _note(record, task, images)
            return ImageResult(
                images=images,
                width=task.width,
                height=task.height,
                num_inference_steps=output.num_inference_steps,
                guidance_scale=output.guidance_scale,
                step_caching=output.step_caching.method if output.step_caching else None,
                prompt_tokens=output.prompt_tokens,
                timing=record.timing,
            )

    async def _delivered(
        self, task: ImageTask, output: ImageOutput, timing: Timing
    ) -> tuple[tuple[GeneratedImage, ...], Timing]:
        """Encodes the images, and stores them unless the caller asked for bytes. Also returns the timing."""
        began = time.monotonic()
        facts = [self._facts(task, output, seed) for seed in output.seeds]
        pictures = list(zip(output.pixels, facts, strict=True))
        files = await asyncio.gather(*(self._encoded(task, pixels, written) for pixels, written in pictures))
        encoded = time.monotonic()
        if task.return_bytes:
            images = [GeneratedImage(seed=seed, data=data) for seed, data in zip(output.seeds, files, strict=True)]
        else:
            images = await asyncio.gather(
                *(
                    self._stored(task, index, seed, data)
                    for index, (seed, data) in enumerate(zip(output.seeds, files, strict=True))
                )
            )
        stored = time.monotonic()
        return tuple(images), replace(timing, encode_s=encoded - began, storage_s=stored - encoded)

    async def _encoded(self, task: ImageTask, pixels: Pixels, facts: dict[str, str] | None) -> bytes:
        return await asyncio.to_thread(encode_image, pixels, task.output_format, task.output_compression, facts)

    async def _stored(self, task: ImageTask, index: int, seed: int, data: bytes) -> GeneratedImage:
        day = time.strftime("%Y/%m/%d", time.gmtime())
        key = f"media/{task.caller}/{day}/{task.id}-{index}.{task.output_format}"
        stored = await self._store.put(key, data)
        return GeneratedImage(seed=seed, object=stored)

    def _facts(self, task: ImageTask, output: ImageOutput, seed: int) -> dict[str, str] | None:
        if not self._settings.media.provenance:
            return None
        return provenance.of_image(task, output, model=self._slot.engine.card.model, seed=seed)


def _ignore(step: Step) -> None:
    del step


def _note(record: Record, task: ImageTask, images: tuple[GeneratedImage, ...]) -> None:
    record.outcome = COMPLETED
    record.pixels = len(images) * task.width * task.height
    objects = [image.object for image in images if image.object is not None]
    if objects:
        record.stored(*objects)
    else:
        record.size = sum(len(image.data or b"") for image in images)
