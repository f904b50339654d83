"""What this engine takes from the settings, checked without loading anything: `diffusion-serve check` uses it too."""

from pathlib import Path
from typing import Literal

from serve_app.model_settings import ModelSettings, Positive, Strict, parse


class EngineArgs(Strict):
    """`engine_args` as this engine understands them."""

    threads: Positive | None = None
    device: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None


def parse_engine_args(settings: ModelSettings) -> EngineArgs:
    """ValueError that lists what is allowed."""
    return parse(EngineArgs, settings.engine_args, "engine_args of the diffusers engine")


def local_folder(model: str) -> Path | None:
    """The folder that `model` names, None for a hub id; ValueError for a folder that does not exist."""
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ValueError(f"The model folder '{model}' does not exist")
    return None
