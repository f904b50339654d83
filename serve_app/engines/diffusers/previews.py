"""What a picture looks like in the middle of its denoising: the clean latents that the last step points to, decoded."""

from __future__ import annotations

import functools
from types import TracebackType
from typing import Any

import torch

from serve_app.engines.base import Pixels
from serve_app.engines.diffusers import pictures
from serve_app.engines.diffusers.families.base import ImageFamily, Size


class Preview:
    """While entered, remembers what a pipeline's scheduler stepped from, so that `look` knows the last step."""

    def __init__(self, pipeline: Any, family: ImageFamily, size: Size) -> None:
        self._pipeline = pipeline
        self._family = family
        self._size = size
        self._before: torch.Tensor | None = None

    def __enter__(self) -> Preview:
        step = self._pipeline.scheduler.step

        @functools.wraps(step)  # pipelines look at the parameters that a scheduler's step takes
        def remember(output: Any, timestep: Any, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self._before = sample
            return step(output, timestep, sample, *args, **kwargs)

        self._pipeline.scheduler.step = remember
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._pipeline.scheduler.step

    def look(self, latents: torch.Tensor) -> Pixels:
        """(height, width, 3) of the picture that `latents`, just stepped to, are on the way to."""
        with torch.no_grad():
            decoded = self._family.decode(self._clean(latents), self._size)
        return pictures.to_pixels(self._pipeline.image_processor.postprocess(decoded, output_type="np")[0])

    def _clean(self, latents: torch.Tensor) -> torch.Tensor:
        # a flow model walks a straight line from noise to picture: follow the last step down to sigma 0
        sigmas, index = self._pipeline.scheduler.sigmas, self._pipeline.scheduler.step_index
        now, before = float(sigmas[index]), float(sigmas[index - 1])
        if self._before is None or now == before:
            return latents
        return latents - now * (latents - self._before) / (now - before)
