"""Picks and loads the engine that the settings ask for. Imports an engine's libraries only when it is chosen."""

from __future__ import annotations

import importlib.util
from typing import Literal

from serve_app.engines import parallel, presets
from serve_app.engines.base import ImageEngine, TextEngine, VideoEngine
from serve_app.model_settings import AnyModel, ImageSettings, ModelSettings, TextSettings, VideoSettings


def choose(settings: ModelSettings) -> Literal["diffusers", "sglang"]:
    """The engine's name: "auto" is sglang where it is installed and the model has GPUs, else diffusers."""
    if settings.engine != "auto":
        return settings.engine
    return "sglang" if settings.gpus > 0 and importlib.util.find_spec("sglang") else "diffusers"


def _checked(model: AnyModel) -> Literal["diffusers", "sglang"]:
    """The engine's name; raises ValueError where it cannot do what the settings say, before anything is loaded."""
    engine = choose(model)
    parallel.check(model, engine)
    presets.check(model, engine)
    return engine


def load_text(settings: TextSettings) -> TextEngine:
    """The text engine with its weights loaded (blocking); ValueError for a model it can't load."""
    if _checked(settings) == "sglang":
        from serve_app.engines.sglang.text import SGLangTextEngine as Engine
    else:
        from serve_app.engines.diffusers.text import DiffusersTextEngine as Engine
    return Engine(settings)


def load_image(settings: ImageSettings) -> ImageEngine:
    """The image engine with its weights loaded (blocking); ValueError for a model it can't load."""
    if _checked(settings) == "sglang":
        from serve_app.engines.sglang.diffusion import SGLangImageEngine as Engine
    else:
        from serve_app.engines.diffusers.diffusion import DiffusersImageEngine as Engine
    return Engine(settings)


def load_video(settings: VideoSettings) -> VideoEngine:
    """The video engine with its weights loaded (blocking); ValueError for a model it can't load."""
    if _checked(settings) == "sglang":
        from serve_app.engines.sglang.diffusion import SGLangVideoEngine as Engine
    else:
        from serve_app.engines.diffusers.diffusion import DiffusersVideoEngine as Engine
    return Engine(settings)
