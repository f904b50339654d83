"""What a picture looks like in the middle of its denoising: the clean latents that the last step points to, decoded."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch

from serve_app.engines.base import Pixels
from serve_app.engines.diffusers import pictures


class Preview:
    """While entered, remembers what a FLUX pipeline's transformer was given, so that `look` knows the last step."""

    def __init__(self, pipeline: Any, width: int, height: int) -> None:
        self._pipeline = pipeline
        self._size = (height, width)
        self._before: torch.Tensor | None = None

    def __enter__(self) -> Preview:
        self._hook = self._pipeline.transformer.register_forward_pre_hook(self._remember, with_kwargs=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hook.remove()

    def look(self, latents: torch.Tensor) -> Pixels:
        """(height, width, 3) of the picture that `latents`, just stepped to, are on the way to."""
        pipeline = self._pipeline
        clean = self._clean(latents)
        unpacked = pipeline._unpack_latents(clean, *self._size, pipeline.vae_scale_factor)
        config = pipeline.vae.config
        decoded = pipeline.vae.decode(unpacked / config.scaling_factor + config.shift_factor, return_dict=False)[0]
        return pictures.to_pixels(pipeline.image_processor.postprocess(decoded, output_type="np")[0])

    def _clean(self, latents: torch.Tensor) -> torch.Tensor:
        # a flow model walks a straight line from noise to picture: follow the last step down to sigma 0
        sigmas, index = self._pipeline.scheduler.sigmas, self._pipeline.scheduler.step_index
        now, before = float(sigmas[index]), float(sigmas[index - 1])
        if self._before is None or now == before:
            return latents
        return latents - now * (latents - self._before) / (now - before)

    def _remember(self, module: object, args: object, kwargs: dict[str, Any]) -> None:
        self._before = kwargs["hidden_states"]
