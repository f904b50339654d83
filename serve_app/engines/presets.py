"""What each engine knows of the presets of `quality`, beside steps and guidance: step caching and precision.

Pure: `diffusion-serve check` refuses an unknown method or parameter with it before anything is loaded.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from serve_app.model_settings import DiffusionSettings, ModelSettings, Positive, Strict, parse
from serve_app.tasks import StepCaching

Engine = Literal["diffusers", "sglang"]
Whole = Annotated[int, Field(ge=0)]


# --- the parameters of each method; None is left to the engine ------------------------------------------------------


class FirstBlock(Strict):
    """diffusers' FirstBlockCacheConfig: the rest of a step is skipped where its first block changed less than this."""

    threshold: Annotated[float, Field(gt=0)] = 0.05


class TaylorSeer(Strict):
    """diffusers' TaylorSeerCacheConfig: one step in `cache_interval` is computed, the others are extrapolated."""

    cache_interval: Positive = 5
    disable_cache_before_step: Positive = 3
    max_order: Positive = 1


class CacheDiT(Strict):
    """SGLang's `cache_dit_params`: CACHE_DIT_REQUEST_PARAM_KEYS in its runtime/cache/cache_dit_integration.py."""

    Fn_compute_blocks: Whole | None = None
    Bn_compute_blocks: Whole | None = None
    max_warmup_steps: Whole | None = None
    residual_diff_threshold: float | None = None
    max_continuous_cached_steps: int | None = None
    enable_taylorseer: bool | None = None
    taylorseer_order: Positive | None = None
    scm_preset: str | None = None
    scm_compute_bins: list[Positive] | str | None = None
    scm_cache_bins: list[Positive] | str | None = None
    scm_policy: Literal["dynamic", "static"] | None = None
    secondary: dict[str, Any] | None = None


class TeaCache(Strict):
    """SGLang's `enable_teacache`, which some families know; its coefficients are SGLang's."""


METHODS: Mapping[Engine, Mapping[str, type[Strict]]] = {
    "diffusers": {"first_block": FirstBlock, "taylorseer": TaylorSeer},
    "sglang": {"cache_dit": CacheDiT, "teacache": TeaCache},
}


def find_problems(model: ModelSettings, engine: Engine) -> Iterator[tuple[str, str]]:
    """(path of a key of the model's settings, what is wrong) for all that this engine does not know."""
    if not isinstance(model, DiffusionSettings):
        return
    for name, preset in model.quality.items():
        if engine == "diffusers" and preset is not None and preset.precision not in (None, "exact"):
            yield f"quality.{name}.precision", f"{preset.precision}: the diffusers engine is always exact"
    methods = METHODS[engine]
    for key, caching in find_step_caching(model):
        if caching.method not in methods:
            yield key, f"the {engine} engine has no method '{caching.method}'; it has {', '.join(methods)}"
            continue
        try:
            parse(methods[caching.method], caching.parameters, caching.method)
        except ValueError as error:
            yield key, str(error)


def find_step_caching(settings: DiffusionSettings) -> Iterator[tuple[str, StepCaching]]:
    """(path of its key, step caching) of each preset that has one."""
    for name, preset in settings.quality.items():
        if preset is not None and preset.step_caching is not None:
            yield f"quality.{name}.step_caching", preset.step_caching.to_task()
