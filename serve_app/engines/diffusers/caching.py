"""Step caching by diffusers' hooks: enabled around one picture or video, so that nothing is left for the next."""

import inspect
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import diffusers
import torch

from serve_app.engines.presets import FirstBlock, TaylorSeer, find_step_caching
from serve_app.model_settings import DiffusionSettings
from serve_app.tasks import StepCaching

ATTENTION = r"\w*blocks\.\d+\.attn\w*"
"""What TaylorSeer extrapolates; its own patterns know `attn` alone, and so none of Wan's `attn1` and `attn2`."""


def can_cache(pipeline: Any) -> bool:
    """Whether it says in which of its calls a step is (FLUX says so when it draws, and not when it edits)."""
    call = inspect.unwrap(type(pipeline).__call__)
    return "cache_context" in call.__code__.co_names and all(
        hasattr(denoiser, "enable_cache") for denoiser in denoisers(pipeline)
    )


def check_presets(pipelines: Sequence[Any], settings: DiffusionSettings) -> None:
    """ValueError for a preset whose step caching one of these pipelines cannot do, with the reason."""
    for key, caching in find_step_caching(settings):
        for pipeline in pipelines:
            if not can_cache(pipeline):
                raise ValueError(f"{key}: diffusers' {type(pipeline).__name__} sets no cache context")
            try:
                with cached(pipeline, caching):
                    _check_hooked(pipeline)
            except Exception as error:
                model = type(denoisers(pipeline)[0]).__name__
                raise ValueError(f"{key}: {caching.method} cannot be used in {model}: {error}") from error


@contextmanager
def cached(pipeline: Any, caching: StepCaching) -> Generator[None]:
    """Within the block the steps of `pipeline` reuse what they can."""
    with ExitStack() as enabled:
        for denoiser in denoisers(pipeline):
            denoiser.enable_cache(_configure(caching))
            enabled.callback(denoiser.disable_cache)
        yield


def _check_hooked(pipeline: Any) -> None:
    """ValueError where the method found nothing to work on: diffusers looks for blocks by their names."""
    for denoiser in denoisers(pipeline):
        registries = (getattr(module, "_diffusers_hook", None) for module in denoiser.modules())
        if not any(registry.hooks for registry in registries if registry is not None):
            raise ValueError("it knows none of its blocks")


def _configure(caching: StepCaching) -> Any:
    if caching.method == "first_block":
        return diffusers.FirstBlockCacheConfig(FirstBlock.model_validate(caching.parameters).threshold)
    seer = TaylorSeer.model_validate(caching.parameters)
    # the factors stay in the precision of the model: rounded to bfloat16 they spoil a float32 one
    return diffusers.TaylorSeerCacheConfig(
        **seer.model_dump(), taylor_factors_dtype=torch.float32, cache_identifiers=[ATTENTION]
    )


def denoisers(pipeline: Any) -> list[Any]:
    """The parts that run at each step."""
    found = (getattr(pipeline, name, None) for name in ("transformer", "transformer_2", "unet"))
    return [denoiser for denoiser in found if denoiser is not None]
