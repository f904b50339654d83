"""What this engine takes from the settings, checked without loading anything: `diffusion-serve check` uses it too."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serve_app.model_settings import ModelSettings


class EngineArgs(BaseModel):
    """`engine_args` as this engine understands them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threads: int | None = Field(default=None, ge=1)
    device: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None


def parse_engine_args(settings: ModelSettings) -> EngineArgs:
    """ValueError that lists what is allowed."""
    try:
        return EngineArgs.model_validate(settings.engine_args)
    except ValidationError as error:
        allowed = ", ".join(EngineArgs.model_fields)
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ValueError(f"engine_args of the diffusers engine: {problems}. Allowed: {allowed}") from error


def local_folder(model: str) -> Path | None:
    """The folder that `model` names, None for a hub id; ValueError for a folder that does not exist."""
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ValueError(f"The model folder '{model}' does not exist")
    return None
