"""FLUX and Wan on SGLang's diffusion workers: what a task becomes, and what comes back. Knows no storage or HTTP."""

import collections.abc
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps

from serve_app.capabilities import refuse_what_it_lacks
from serve_app.engines import pictures
from serve_app.engines.base import ImageOutput, OnStep, VideoOutput
from serve_app.engines.parallel import sglang_arguments
from serve_app.engines.presets import find_step_caching
from serve_app.engines.prompts import PromptCounter
from serve_app.engines.sglang.adapters import Adapters
from serve_app.engines.sglang.checkpoint import known_as
from serve_app.engines.sglang.generator import Generator
from serve_app.engines.sglang.progress import Progress
from serve_app.engines.sglang.requests import image_arguments, video_arguments, without_none
from serve_app.errors import GenerationFailed, InvalidRequest
from serve_app.media.images import Pixels
from serve_app.model_settings import ImageSettings, VideoSettings
from serve_app.tasks import Adapter, ImageTask, Kind, ModelCard, Precision, StepCaching, VideoTask

logger = logging.getLogger("serve_app.engines")
T = TypeVar("T", ImageTask, VideoTask)
PATCH = 16
"""Pixels a side that the transformer takes at a time: a latent pixel is 8x8, and it takes 2x2 of them."""
WARM_UP_STEPS = 2
"""Each step runs the same kernels; a multistep scheduler has a first and a later kind."""
CACHED_STEPS = 8
"""Enough for a step cache to fill and be used."""
MOUNTS_ONCE = "1.5.1"
"""The version of cache-dit that SGLang 0.5.23 pins: it fails at a preset that follows a request without it."""
INPUT_IMAGES = {
    "Flux2PipelineConfig": 10,
    "Flux2KleinPipelineConfig": 4,
    "QwenImageEditPipelineConfig": 1,
    "QwenImageEditPlusPipelineConfig": 3,
}
"""How many images an edit takes, by the class of a pipeline's configuration in SGLang 0.5.23, which does not say it."""


class SGLangDiffusion:
    """What the two share: the workers and their health."""

    kind: Kind

    def __init__(self, settings: ImageSettings | VideoSettings, arguments: dict[str, Any]) -> None:
        self._settings = settings
        self._adapters = Adapters(settings.adapters)
        model = {
            "model_path": settings.model,
            "trust_remote_code": settings.trust_remote_code,
            "revision": settings.revision,
            "model_id": known_as(settings),
        }
        self._generator = Generator(
            without_none(model) | sglang_arguments(settings) | without_none(arguments) | settings.engine_args,
            allow_fallback=settings.allow_fallback,
        )
        self._config = self._generator.config
        try:
            self._check_presets()
        except ValueError:
            self.close()
            raise
        self._most_steps = settings.limits.steps
        self.card = ModelCard(
            model=settings.id,
            kind=self.kind,
            engine="sglang",
            capabilities=frozenset(self._capabilities()),
            input_images=INPUT_IMAGES.get(type(self._config).__name__, 1),
        )

    async def check_health(self) -> None:
        await self._generator.check_health()

    def close(self) -> None:
        self._generator.close()

    def _capabilities(self) -> set[str]:
        # SGLang takes a mask and never looks at it
        of_image = "edit" if self.kind == "image" else "image_to_video"
        can = {
            of_image: self._config.task_type.accepts_image_input(),
            "two_experts": self._config.boundary_ratio is not None,
        }
        return {"progress", "cancel", "negative_prompt"} | {name for name, does in can.items() if does}

    @property
    def _needs_image(self) -> bool:
        return bool(self._config.task_type.requires_image_input())

    @cached_property
    def _own(self) -> Any:
        """A request that leaves all to SGLang: its own steps, guidance and step caching for this model.

        It has an image where the model takes no request without one.
        """
        images = [pictures.read(pictures.blank())] if self._needs_image else []
        with self._as_files("own", images) as files:
            paths = [str(file) for file in files]
            # a list for images to edit, one path for a first frame, as the requests of callers have it
            image = {"image_path": paths if self.kind == "image" else paths[0]} if paths else {}
            return self._generator.request({"prompt": "own"} | image)

    @contextmanager
    def _as_files(self, name: str, images: Iterable[Image.Image]) -> collections.abc.Generator[list[Path]]:
        """Images as files for the workers, which are gone after the block, and after an image that cannot be read."""
        files: list[Path] = []
        try:
            for index, image in enumerate(images):
                files.append(self._generator.folder / f"{name}-{index}.png")
                image.save(files[-1], compress_level=1)
            yield files
        finally:
            for file in files:
                file.unlink(missing_ok=True)

    def _check_presets(self) -> None:
        """ValueError for step caching that SGLang would leave off without a word."""
        for key, caching in find_step_caching(self._settings):
            if caching.method == "teacache" and self._own.teacache_params is None:
                raise ValueError(f"{key}: SGLang has no TeaCache for this model")
            if caching.method == "cache_dit" and self._generator.args.enable_breakable_cuda_graph:
                raise ValueError(f"{key}: SGLang caches no steps with enable_breakable_cuda_graph")
            if caching.method == "cache_dit" and version("cache-dit") == MOUNTS_ONCE:
                raise ValueError(f"{key}: cache-dit {MOUNTS_ONCE} mounts its cache only once: install 1.5.2 or newer")

    async def warm_up(self) -> None:
        """Loads the adapters, makes each size, and the first also by each adapter and preset: what is unfit shows."""
        await self._adapters.load(self._generator.control)
        tasks: list[Any] = list(self._settings.warm_up_tasks(WARM_UP_STEPS))
        for task in (*tasks, *self._variants(tasks[0])):
            await self._warm(task)

    async def _warm(self, task: Any) -> None:
        raise NotImplementedError

    def _variants(self, task: T) -> Iterator[T]:
        for name, adapter in self._settings.adapters.items():
            yield replace(task, adapters=(Adapter(name=name, scale=adapter.scale),))
        tried: list[tuple[StepCaching | None, Precision | None]] = [(None, None)]
        for preset in filter(None, self._settings.quality.values()):
            kind = (preset.step_caching.to_task() if preset.step_caching else None, preset.precision)
            if kind not in tried:  # presets may differ in their steps alone
                tried.append(kind)
                yield replace(task, num_inference_steps=CACHED_STEPS, step_caching=kind[0], precision=kind[1])

    def _fill(self, task: T) -> T:
        """The task with SGLang's own steps and guidance for this model where it leaves them open."""
        if task.num_inference_steps is not None and task.guidance_scale is not None:
            return task
        steps = task.num_inference_steps or min(self._own.num_inference_steps, self._most_steps)
        guidance = self._own.guidance_scale if task.guidance_scale is None else task.guidance_scale
        return replace(task, num_inference_steps=steps, guidance_scale=guidance)


class SGLangImageEngine(SGLangDiffusion):
    """FLUX. Its guidance is an input of the model, set once by `defaults.guidance_scale`; with a negative prompt
    SGLang adds true classifier-free guidance of the task's scale, at twice the work.
    """

    kind = "image"

    def __init__(self, settings: ImageSettings) -> None:
        # the guidance that the model takes as an input is fixed per engine
        super().__init__(settings, {"embedded_cfg_scale": settings.defaults.guidance_scale})
        self._prompts = _prompt_counter(settings)

    async def generate(self, task: ImageTask, on_step: OnStep) -> ImageOutput:
        """Draws the images one after another, so that each is what n=1 with its seed gives."""
        refuse_what_it_lacks(task, self.card)
        if self._needs_image and not task.input_images:
            raise InvalidRequest(f"The model '{task.model}' edits images: send one.", param="image")
        task = self._fill(task)
        steps, guidance = task.num_inference_steps or 0, task.guidance_scale or 0.0
        await self._adapters.apply(task.adapters, self._generator.control)
        progress = Progress(on_step, task.n * steps, parts=task.n)
        seeds = [task.seed + i for i in range(task.n)]
        images = (pictures.read(data) for data in task.input_images)
        with self._as_files(task.id, images) as files:
            pixels = [await self._draw(task, seed, files, progress) for seed in seeds]
        progress.finish()
        return ImageOutput(
            pixels=pixels,
            seeds=seeds,
            num_inference_steps=steps,
            guidance_scale=self._guidance_used(task, guidance),
            step_caching=task.step_caching,
            prompt_tokens=self._prompts.count(task.prompt) if self._prompts else None,
        )

    async def _warm(self, task: ImageTask) -> None:
        images = (pictures.blank(task.width, task.height),) if self._needs_image else ()
        await self.generate(replace(task, input_images=images), lambda _: None)

    async def _draw(self, task: ImageTask, seed: int, files: list[Path], progress: Progress) -> Pixels:
        arguments = image_arguments(task, seed=seed, multiple=PATCH, image_paths=files)
        output = await self._generator.ask(self._generator.request(arguments), progress.look)
        progress.finish_part()
        return _frames(output)[0, : task.height, : task.width]

    def _guidance_used(self, task: ImageTask, guidance: float) -> float:
        embedded = bool(self._config.should_use_guidance)
        return float(self._config.embedded_cfg_scale) if embedded and not task.negative_prompt else guidance


class SGLangVideoEngine(SGLangDiffusion):
    """Wan 2.1 and 2.2, text-to-video, image-to-video or both."""

    kind = "video"

    def __init__(self, settings: VideoSettings) -> None:
        super().__init__(settings, {})
        # the VAE of Wan2.2's 5B model shrinks 16-fold; the others have no vae_stride and shrink 8-fold
        self._multiple = 2 * int(self._config.vae_stride[1]) if hasattr(self._config, "vae_stride") else PATCH

    async def generate(
        self, task: VideoTask, image: bytes | None, on_step: OnStep, *, last_frame: bytes | None = None
    ) -> VideoOutput:
        """A video of exactly the asked frames and pixels; `path` where the worker could encode it as it is."""
        refuse_what_it_lacks(task, self.card, images=len([each for each in (image, last_frame) if each]))
        task = self._fill(task)
        steps, guidance = task.num_inference_steps or 0, task.guidance_scale or 0.0
        self._check(task, image, guidance)
        await self._adapters.apply(task.adapters, self._generator.control)
        first_frame = self._fitted(image, task) if image is not None else None
        written = [first_frame] if first_frame is not None and self._needs_image else []
        with self._as_files(task.id, written) as files:
            arguments = video_arguments(
                task, multiple=self._multiple, image_path=files[0] if files else None, folder=self._generator.folder
            )
            request = self._generator.request(arguments)
            if first_frame is not None and not files:
                # handed over as a tensor it keeps the asked size; as a file SGLang makes 704x1280 pixels of any image
                request.condition_image = _as_tensor(first_frame)
            progress = Progress(on_step, steps)
            output = await self._generator.ask(request, progress.look)
            progress.finish()
        made = VideoOutput(num_inference_steps=steps, guidance_scale=guidance)
        if arguments["save_output"]:
            return replace(made, path=_path(output))
        frames = _frames(output)[: task.num_frames, : task.height, : task.width]
        return replace(made, frames=np.ascontiguousarray(frames))

    def _check(self, task: VideoTask, image: bytes | None, guidance: float) -> None:
        if image is None and self._needs_image:
            raise InvalidRequest(f"The model '{task.model}' needs an image.", param="input_reference")
        if self._generator.args.enable_cfg_parallel and guidance <= 1:
            raise InvalidRequest(
                "This deployment computes the two halves of guidance on GPUs of their own (parallel: cfg), so "
                f"guidance_scale must be above 1, not {guidance:g}.",
                param="nvext.guidance_scale",
            )
        most = getattr(self._config, "max_area", None) if self._needs_image else None
        if most is not None and task.width * task.height > most:
            raise InvalidRequest(f"The model '{task.model}' makes at most {most} pixels of an image.", param="size")

    def _fitted(self, image: bytes, task: VideoTask) -> Image.Image:
        """The first frame at the size that is generated: scaled to cover it, cut to its middle."""
        size = pictures.next_multiple(task.width, self._multiple), pictures.next_multiple(task.height, self._multiple)
        return ImageOps.fit(pictures.read(image), size, Image.Resampling.LANCZOS)

    async def _warm(self, task: VideoTask) -> None:
        images: list[bytes | None] = [] if self._needs_image else [None]
        if "image_to_video" in self.card.capabilities:
            images.append(pictures.blank(task.width, task.height))
        for image in images:
            output = await self.generate(task, image, lambda _: None)
            if output.path is not None:
                output.path.unlink(missing_ok=True)


def _prompt_counter(settings: ImageSettings) -> PromptCounter | None:
    """None where the checkpoint's tokenizer is not as diffusers lays it: the model is served without the count."""
    try:
        return PromptCounter.of_checkpoint(settings.model, settings.revision)
    except (ImportError, OSError, ValueError) as error:  # a tokenizer may need a library of its own
        logger.warning("prompts of %s are not counted: %s", settings.id, error)
        return None


def _frames(output: Any) -> Pixels:
    """(frames, height, width, 3) of the one sample in an OutputBatch."""
    if not output.output:
        raise GenerationFailed("The diffusion worker returned no pixels.")
    return np.asarray(output.output[0], dtype=np.uint8)


def _path(output: Any) -> Path:
    if not output.output_file_paths:
        raise GenerationFailed("The diffusion worker returned no file.")
    return Path(output.output_file_paths[0])


def _as_tensor(image: Image.Image) -> Any:
    """(1, 3, 1, height, width) in -1..1, as SGLang's own preprocessing of a first frame gives."""
    import torch

    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    return pixels.div(127.5).sub(1.0)[None, :, None]
