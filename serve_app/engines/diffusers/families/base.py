"""What a family of image or video models says of itself. The engines know no pipeline but through these classes.

Those of text are in `text.py`.
"""

import functools
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeVar

import diffusers
import torch
from PIL import Image

from serve_app.engines import pictures
from serve_app.engines.diffusers.convolutions import use_onednn
from serve_app.engines.diffusers.loading import Source
from serve_app.errors import InvalidRequest
from serve_app.media.images import Pixels
from serve_app.tasks import ImageTask, VideoTask

T = TypeVar("T", ImageTask, VideoTask)
LEAST_SIDE = 64
"""Pipelines that look at images refuse smaller ones, or divide by zero."""
STRENGTH = 0.75
"""Of an edit that begins with a noised image: it draws what the prompt asks for where something else stood, and leaves
the rest. With more, four steps would begin with noise alone."""


@dataclass(frozen=True, slots=True)
class Size:
    """Pixels that a pipeline can make, of which the asked size is the upper left part."""

    width: int
    height: int

    @classmethod
    def of(cls, task: ImageTask | VideoTask, multiple: int) -> Self:
        """The smallest that holds the asked size."""
        return cls(pictures.next_multiple(task.width, multiple), pictures.next_multiple(task.height, multiple))


@dataclass(slots=True)
class Call:
    """A pipeline and the arguments of one call, all but seed, callback and form of output; `steps` that it takes."""

    pipeline: Any
    arguments: dict[str, Any]
    steps: int = 0


class Family:
    """A loaded checkpoint of one family.

    `name` stands in the table of families, `classes` are what its checkpoints call themselves: the pipeline of a
    model_index.json, or the architecture of a text model's config.json. `since` is a release of diffusers that has all
    of its pipelines, as later ones do.
    """

    name: ClassVar[str]
    classes: ClassVar[tuple[str, ...]]
    since: ClassVar[str]


class DiffusionFamily(Family):
    """Images or videos, and what their callers leave open. `parameters` are names of `nvext` that only some take."""

    num_inference_steps: int = 50
    guidance_scale: float = 5.0
    negative_prompt: bool = True
    parameters: frozenset[str] = frozenset()

    def __init__(self, source: Source, class_name: str) -> None:
        self.source = source
        parts = self.load_parts(source)
        self.pipeline: Any = _load_pipeline(getattr(diffusers, class_name), source, **dict.fromkeys(parts))
        self.pipeline.register_modules(**parts)
        self.pipeline.set_progress_bar_config(disable=True)

    def load_parts(self, source: Source) -> dict[str, Any]:
        """Parts of the pipeline that diffusers cannot load without torchvision, by name."""
        del source
        return {}

    @property
    def pipelines(self) -> list[Any]:
        """Those that draw what is new, and whose steps presets may cache."""
        return [self.pipeline]

    @property
    def modules(self) -> list[torch.nn.Module]:
        """The modules that run at each step, and the autoencoder: what the number of threads depends on."""
        names = ("transformer", "transformer_2", "unet", "vae")
        parts = [getattr(self.pipeline, name, None) for name in names]
        return [part for part in parts if part is not None]

    @property
    def capabilities(self) -> frozenset[str]:
        """In the words of `ModelCard`."""
        return frozenset({"negative_prompt"} if self.negative_prompt else ())

    def fill(self, task: T, most_steps: int) -> T:
        """The task with what caller and settings left open; steps of the family's own are at most `most_steps`."""
        steps = task.num_inference_steps or min(self.num_inference_steps, most_steps)
        guidance = self.guidance_scale if task.guidance_scale is None else task.guidance_scale
        return replace(task, num_inference_steps=steps, guidance_scale=guidance)

    def view_as(self, class_name: str) -> Any:
        """A pipeline of another class over the same weights."""
        if type(self.pipeline).__name__ == class_name:
            return self.pipeline
        pipeline: Any = getattr(diffusers, class_name).from_pipe(self.pipeline, **self.source.dtype_argument)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def prompt_tokens(self, tokenizer: Any, most: int = 512) -> int:
        """The longest prompt: what the pipeline takes, or what a small tokenizer can say."""
        return min(most, tokenizer.model_max_length)


class ImageFamily(DiffusionFamily):
    """Draws from text alone, unless a subclass edits. `multiple` is what both sides must be multiples of."""

    input_images: int = 0
    masks: bool = False
    needs_image: bool = False

    @property
    def multiple(self) -> int:
        return self.pipeline.vae_scale_factor * 2

    @property
    def capabilities(self) -> frozenset[str]:
        can = {"previews": True, "edit": self.input_images > 0, "mask": self.masks}
        return super().capabilities | {name for name, does in can.items() if does}

    def arguments(self, task: ImageTask) -> dict[str, Any]:
        """What the pipelines are given beside prompt, size and steps; `guidance_scale` of the task is filled."""
        return {"guidance_scale": task.guidance_scale, "negative_prompt": task.negative_prompt}

    def plan(self, task: ImageTask, size: Size, mask: Image.Image | None) -> Call:
        """The call that draws this task; its steps and guidance are filled, its images and mask are allowed."""
        del mask
        steps = task.num_inference_steps or self.num_inference_steps
        arguments = {
            "prompt": task.prompt,
            "width": size.width,
            "height": size.height,
            "num_inference_steps": steps,
            **self.arguments(task),
        }
        return Call(self.pipeline, arguments, steps)

    def decode(self, latents: torch.Tensor, size: Size) -> torch.Tensor:
        """(1, 3, height, width) in -1..1: the picture of what the pipelines call latents within their steps."""
        del size
        return decode_scaled(self.pipeline.vae, latents)

    @contextmanager
    def previewing(self, pipeline: Any, size: Size) -> Generator[Callable[[torch.Tensor], Pixels]]:
        """Gives a function that shows a picture in the middle of its denoising, (height, width, 3), by its latents: it
        decodes the clean ones that the last step points to.
        """
        scheduler = pipeline.scheduler
        step = scheduler.step
        before: torch.Tensor | None = None

        @functools.wraps(step)  # pipelines look at the parameters that a scheduler's step takes
        def remember(output: Any, timestep: Any, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            nonlocal before
            before = sample
            return step(output, timestep, sample, *args, **kwargs)

        def look(latents: torch.Tensor) -> Pixels:
            # a flow model walks a straight line from noise to picture: follow the last step down to sigma 0
            now, last = float(scheduler.sigmas[scheduler.step_index]), float(scheduler.sigmas[scheduler.step_index - 1])
            if before is not None and now != last:
                latents = latents - now * (latents - before) / (now - last)
            with torch.no_grad():
                decoded = self.decode(latents, size)
            return pictures.to_pixels(pipeline.image_processor.postprocess(decoded, output_type="np")[0])

        scheduler.step = remember
        try:
            yield look
        finally:
            del scheduler.step


def noised(call: Call, task: ImageTask) -> tuple[float, int]:
    """How much of the way is left to an edit that begins with a noised image, at least a step, and its steps."""
    strength = max(task.parameters.get("strength", STRENGTH), 1 / call.steps)
    return strength, call.steps - int(max(0, call.steps * (1 - strength)))


class NoisedEdits(ImageFamily):
    """Edits by beginning in the middle, with the noised image: `strength` is how much of the way is left."""

    edits: ClassVar[str]
    inpaints: ClassVar[str]
    input_images = 1
    masks = True
    parameters = frozenset({"strength"})

    def __init__(self, source: Source, class_name: str) -> None:
        del class_name  # each of them has the same parts
        super().__init__(source, self.classes[0])
        self._edit = self.view_as(self.edits)
        self._inpaint = self.view_as(self.inpaints)

    def plan(self, task: ImageTask, size: Size, mask: Image.Image | None) -> Call:
        call = super().plan(task, size, None)
        if not task.input_images:
            return call
        strength, steps = noised(call, task)
        source = pictures.read(task.input_images[0], task.width, task.height)
        edit = {"image": pictures.pad(source, size.width, size.height), "strength": strength}
        if mask is None:
            return Call(self._edit, call.arguments | edit, steps)
        edit["mask_image"] = pictures.pad(mask, size.width, size.height)
        return Call(self._inpaint, call.arguments | edit, steps)


class ReferenceEdits(ImageFamily):
    """Edits by looking at images while it draws: all steps, and each image in its own shape.

    Where it `inpaints`, a mask has it begin with the noised first image, as `NoisedEdits` does.
    """

    input_images = 1
    inpaints: ClassVar[str] = ""

    def __init__(self, source: Source, class_name: str) -> None:
        super().__init__(source, class_name)
        self.masks = bool(self.inpaints)
        self._inpaint: Any = self.view_as(self.inpaints) if self.masks else None
        if self.masks:
            self.parameters |= {"strength"}

    def plan(self, task: ImageTask, size: Size, mask: Image.Image | None) -> Call:
        call = super().plan(task, size, mask)
        looked_at = task.input_images if mask is None else task.input_images[1:]
        images = [self.prepare(pictures.read(image)) for image in looked_at]
        if mask is not None:
            return self.plan_inpainting(call, task, size, mask, images)
        if images:
            call.arguments["image"] = images if self.input_images > 1 else images[0]
        return call

    def plan_inpainting(
        self, call: Call, task: ImageTask, size: Size, mask: Image.Image, references: Sequence[Image.Image]
    ) -> Call:
        """As `call`, within the mask of the first image; `references` are the other images."""
        if len(references) > 1:
            raise InvalidRequest("With a mask, a model looks at two images at most.", param="image")
        strength, steps = noised(call, task)
        source = pictures.read(task.input_images[0], task.width, task.height)
        call.arguments |= {
            "image": pictures.pad(source, size.width, size.height),
            "mask_image": pictures.pad(mask, size.width, size.height),
            "strength": strength,
        }
        if references:
            call.arguments["image_reference"] = references[0]
        return Call(self._inpaint, call.arguments, steps)

    def prepare(self, image: Image.Image) -> Image.Image:
        """An input image as the pipeline takes it; raises InvalidRequest for one that it cannot take."""
        scale = LEAST_SIDE / min(image.size)
        if scale <= 1:
            return image
        return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


class VideoFamily(DiffusionFamily):
    """Makes videos from text, from a first frame, or both: a pipeline is None where this checkpoint cannot.

    `multiple` is what both sides must be multiples of; frames after the first come in groups of `group`.
    """

    from_text: Any = None
    from_image: Any = None
    input_images: int = 1
    last_frame: bool = False
    needs_last_frame: bool = False
    multiple: int
    group: int

    @property
    def pipelines(self) -> list[Any]:
        return [pipeline for pipeline in (self.from_text, self.from_image) if pipeline is not None]

    @property
    def capabilities(self) -> frozenset[str]:
        can = {"image_to_video": self.from_image is not None, "last_frame": self.last_frame}
        return super().capabilities | {name for name, does in can.items() if does}

    def arguments(self, task: VideoTask) -> dict[str, Any]:
        """What the pipelines are given beside prompt, size, frames, steps, guidance and images."""
        del task
        return {}

    def plan(self, task: VideoTask, size: Size, frames: int, images: Sequence[Image.Image]) -> Call:
        """The call that makes this task; `images` are its first frame and its last, as far as they are given."""
        steps = task.num_inference_steps or self.num_inference_steps
        arguments = {
            "prompt": task.prompt,
            "negative_prompt": task.negative_prompt,
            "width": size.width,
            "height": size.height,
            "num_frames": frames,
            "num_inference_steps": steps,
            "guidance_scale": task.guidance_scale,
            **self.arguments(task),
            **self.image_arguments(images),
        }
        return Call(self.from_image if images else self.from_text, arguments, steps)

    def image_arguments(self, images: Sequence[Image.Image]) -> dict[str, Any]:
        """How the pipeline of images takes the first frame and the last."""
        return dict(zip(("image", "last_image"), images, strict=False))

    @contextmanager
    def configured(self, call: Call, task: VideoTask) -> Generator[None]:
        """Sets for one call what the pipeline keeps as configuration."""
        del call, task
        yield


def _load_pipeline(cls: Any, source: Source, **parts: Any) -> Any:
    """The pipeline of class `cls`, with some parts given, on its device; ValueError where the checkpoint is broken."""
    try:
        pipeline = cls.from_pretrained(source.model, **source.hub_arguments, **source.dtype_argument, **parts)
    except (OSError, ValueError) as error:
        raise ValueError(f"'{source.model}' could not be loaded as {cls.__name__}: {error}") from error
    if source.device.type == "cpu":
        use_onednn(pipeline.vae)
    return pipeline.to(source.device)


def decode_scaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Decodes latents of an autoencoder that tells one scale and perhaps one shift."""
    shift = vae.config.shift_factor or 0.0
    return vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor + shift, return_dict=False)[0]
