"""Step caching by diffusers' hooks: enabled around one picture or video, so that nothing is left for the next."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from typing import Any

import diffusers
import torch

from serve_app.engines.presets import FirstBlock, TaylorSeer
from serve_app.model_settings import DiffusionSettings
from serve_app.tasks import StepCaching

DENOISERS = ("transformer", "transformer_2", "unet")


def can_cache(pipeline: Any) -> bool:
    """Whether it says in which of its calls a step is (FLUX says so when it draws, and not when it edits)."""
    call = inspect.unwrap(type(pipeline).__call__)
    return "cache_context" in call.__code__.co_names and all(
        hasattr(denoiser, "enable_cache") for denoiser in _denoisers(pipeline)
    )


def check_presets(pipelines: Iterable[Any], settings: DiffusionSettings) -> None:
    """ValueError for a preset whose step caching none of these pipelines can do, with the reason."""
    pipelines = list(pipelines)
    for name, preset in settings.quality.items():
        if preset is None or preset.step_caching is None:
            continue
        caching = preset.step_caching.to_task()
        able = [pipeline for pipeline in pipelines if can_cache(pipeline)]
        if not able:
            names = ", ".join(sorted({type(pipeline).__name__ for pipeline in pipelines}))
            raise ValueError(f"quality.{name}.step_caching: {names} of diffusers sets no cache context")
        try:
            with cached(able[0], caching):
                pass
        except Exception as error:
            what, where = f"quality.{name}.step_caching: {caching.method}", type(_denoisers(able[0])[0]).__name__
            raise ValueError(f"{what} cannot be used in {where}: {error}") from error


@contextmanager
def cached(pipeline: Any, caching: StepCaching | None) -> Generator[None]:
    """Within the block the steps of `pipeline` reuse what they can; not at all where there is no `caching`."""
    with ExitStack() as enabled:
        if caching is not None:
            for denoiser in _denoisers(pipeline):
                denoiser.enable_cache(_configure(caching))
                enabled.callback(denoiser.disable_cache)
        yield


def _configure(caching: StepCaching) -> Any:
    if caching.method == "first_block":
        return diffusers.FirstBlockCacheConfig(FirstBlock.model_validate(caching.parameters).threshold)
    seer = TaylorSeer.model_validate(caching.parameters)
    # the factors stay in the precision of the model: rounded to bfloat16 they spoil a float32 one
    return diffusers.TaylorSeerCacheConfig(**seer.model_dump(), taylor_factors_dtype=torch.float32)


def _denoisers(pipeline: Any) -> list[Any]:
    found = (getattr(pipeline, name, None) for name in DENOISERS)
    return [denoiser for denoiser in found if denoiser is not None]
