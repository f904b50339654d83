"""Picks and loads the engine that the settings ask for. Imports an engine's libraries only when it is chosen."""

import importlib.util
from typing import Any, Literal

from serve_app.engines import parallel, presets
from serve_app.engines.imports import uncollected
from serve_app.model_settings import AnyModel, ModelSettings
from serve_app.tasks import Kind


def choose(settings: ModelSettings) -> Literal["diffusers", "sglang"]:
    """The engine's name: "auto" is sglang where it is installed and the model has GPUs, else diffusers."""
    if settings.engine != "auto":
        return settings.engine
    return "sglang" if settings.gpus > 0 and importlib.util.find_spec("sglang") else "diffusers"


def load(model: AnyModel) -> Any:
    """The engine of the model's kind with its weights loaded (blocking); ValueError for a model it can't load."""
    engine = choose(model)
    parallel.check(model, engine)
    for key, why in presets.find_problems(model, engine):
        raise ValueError(f"{key}: {why}")
    with uncollected():
        engines = _sglang() if engine == "sglang" else _diffusers()
    return engines[model.kind](model)


def _sglang() -> dict[Kind, Any]:
    from serve_app.engines.sglang.diffusion import SGLangImageEngine, SGLangVideoEngine
    from serve_app.engines.sglang.text import SGLangTextEngine

    return {"text": SGLangTextEngine, "image": SGLangImageEngine, "video": SGLangVideoEngine}


def _diffusers() -> dict[Kind, Any]:
    from serve_app.engines.diffusers.diffusion import DiffusersImageEngine, DiffusersVideoEngine
    from serve_app.engines.diffusers.text import DiffusersTextEngine

    return {"text": DiffusersTextEngine, "image": DiffusersImageEngine, "video": DiffusersVideoEngine}
