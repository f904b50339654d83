"""What a deployment asks of an engine: three small Protocols and the values they give back.

Two implementations prove them: `engines/diffusers` and `engines/sglang`. An engine knows no HTTP, storage or Ray.

Rules that all share:

- An engine is made by its constructor (which loads the weights, blocking) in a replica's `__init__`, then warmed up.
- Calls run off the event loop; `on_step` is called on the event loop.
- Cancelling the asyncio task that awaits `generate` (or closing the text generator) stops the work within one
  denoising step where the engine can, and ends only when the device is free again, so that a caller who holds a
  semaphore around it never overlaps two generations. An engine that cannot stop finishes and drops its result.
- Sizes and frame counts are those that the task names: an engine that needs multiples generates more and crops.
- Errors are ours: InvalidRequest or UnsupportedParameter for what this model cannot do, GenerationFailed with the true
  text of what broke, EngineDied when the engine cannot serve again.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serve_app.media.images import Pixels
from serve_app.tasks import ImageTask, ModelCard, StepCaching, TextEvent, TextTask, VideoTask


@dataclass(frozen=True, slots=True)
class Step:
    """Denoising step `step` of `total` is done. `preview` is a decoded approximation, where one was asked for.

    Over all that one call does, `step` never falls: with n images in turn it counts through n x steps.
    """

    step: int
    total: int
    preview: Pixels | None = None


OnStep = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class ImageOutput:
    """`pixels` holds n images of (height, width, 3); image i was drawn with `seeds[i]`.

    `step_caching` is the task's where it was used: a pipeline that edits may lack it. `prompt_tokens` is None where the
    engine cannot count them.
    """

    pixels: list[Pixels]
    seeds: list[int]
    num_inference_steps: int
    guidance_scale: float
    step_caching: StepCaching | None = None
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class VideoOutput:
    """Exactly one of `frames` (frames, height, width, 3) and `path` (an H.264 MP4 that the receiver deletes) is set."""

    num_inference_steps: int
    guidance_scale: float
    frames: Pixels | None = None
    path: Path | None = None


class Engine(Protocol):
    """What the three have in common."""

    card: ModelCard

    async def warm_up(self) -> None:
        """Runs the configured shapes once, so that no caller pays for compilation."""
        ...

    async def check_health(self) -> None:
        """Raises EngineDied when this engine cannot serve again."""
        ...

    def close(self) -> None:
        """Ends threads and worker processes; safe to call twice."""
        ...


class TextEngine(Engine, Protocol):
    def generate(self, task: TextTask) -> AsyncIterator[TextEvent]:
        """Blocks as they finish, TextStep events between them if `task.show_steps`, and a TextEnd last.

        An async generator: `aclose()` cancels. Stop strings, EOS and max_tokens are applied here: no text after them.
        """
        ...


class ImageEngine(Engine, Protocol):
    async def generate(self, task: ImageTask, on_step: OnStep) -> ImageOutput:
        """Draws `task.n` images; previews come with `task.partial_images` of the steps, spread evenly."""
        ...


class VideoEngine(Engine, Protocol):
    async def generate(
        self, task: VideoTask, image: bytes | None, on_step: OnStep, *, last_frame: bytes | None = None
    ) -> VideoOutput:
        """Makes one video; `image` is the encoded first frame for image-to-video."""
        ...
