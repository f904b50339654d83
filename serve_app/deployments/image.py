"""The image deployment: a diffusion model behind Serve, its encoders and the store. Knows no HTTP.

The engine is held only while it draws: encoding and storing go on beside the next generation.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from serve_app.deployments import provenance
from serve_app.deployments.generation import Record, generation
from serve_app.deployments.replica import ModelDeployment
from serve_app.engines.base import ImageEngine, ImageOutput, OnStep, Step
from serve_app.media.images import Pixels, check_encoders, encode_image
from serve_app.storage.base import check_store
from serve_app.tasks import GeneratedImage, ImageEvent, ImagePreview, ImageResult, ImageTask
from serve_app.waiting import follow


class ImageDeployment(ModelDeployment[ImageEngine]):
    """One generation at a time."""

    kind = "image"

    async def generate(self, task: ImageTask) -> ImageResult:
        """Draws, encodes and stores. Cancelling it stops the engine within a denoising step."""
        return await self._generate(task, lambda _: None)

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
                record.turn = turn
                async with turn.work():
                    output = await self._slot.engine.generate(task, on_step)
            record.steps = output.num_inference_steps
            images = await self._deliver(task, output, record)
            record.amounts = {"pixels": len(images) * task.width * task.height}
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

    async def _deliver(self, task: ImageTask, output: ImageOutput, record: Record) -> tuple[GeneratedImage, ...]:
        """Encodes the images, and stores them unless the caller asked for bytes."""
        began = time.monotonic()
        model, told = self._slot.engine.card.model, self._settings.media.provenance
        facts = [provenance.of_image(task, output, model=model, seed=seed) if told else None for seed in output.seeds]
        files = await asyncio.gather(*(self._encoded(task, *drawn) for drawn in zip(output.pixels, facts, strict=True)))
        encoded = time.monotonic()
        record.encode_s = encoded - began
        if task.return_bytes:
            record.size = sum(map(len, files))
            return tuple(GeneratedImage(seed=seed, data=data) for seed, data in zip(output.seeds, files, strict=True))
        day = time.strftime("%Y/%m/%d", time.gmtime())
        keys = [f"media/{task.caller}/{day}/{task.id}-{i}.{task.output_format}" for i in range(len(files))]
        record.stored(*await asyncio.gather(*map(self._store.put, keys, files)))
        record.storage_s = time.monotonic() - encoded
        made = zip(output.seeds, record.objects, strict=True)
        return tuple(GeneratedImage(seed=seed, object=stored) for seed, stored in made)

    async def _encoded(self, task: ImageTask, pixels: Pixels, facts: dict[str, str] | None) -> bytes:
        return await asyncio.to_thread(encode_image, pixels, task.output_format, task.output_compression, facts)
