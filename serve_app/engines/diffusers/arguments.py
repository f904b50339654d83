"""What this engine takes from the settings, checked without loading anything: `diffusion-serve check` uses it too.

The dLLM algorithms have SGLang's names and parameters.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from serve_app.engines.families import GEMMA4_RENOISE, JOINT_THRESHOLD, LOW_CONFIDENCE
from serve_app.model_settings import ModelSettings, Positive, Strict, TextSettings, parse

LEAST = 1e-6
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Amount = Annotated[float, Field(strict=True, ge=LEAST, le=1000)]
Steps = Annotated[int, Field(strict=True, ge=1, le=1024)]


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


class Unmasking(Strict):
    """Each step fills the masks that it is sure of."""

    name: ClassVar[str] = LOW_CONFIDENCE
    threshold: Share = 0.95


class Editing(Unmasking):
    """Also edits the tokens of a block, for some steps after its last mask is filled."""

    name: ClassVar[str] = JOINT_THRESHOLD
    threshold: Share = 0.5
    edit_threshold: Share = 0
    max_post_edit_steps: Annotated[int, Field(strict=True, ge=0, le=1024)] = 16
    penalty_lambda: Annotated[float, Field(strict=True, ge=0, le=0)] = 0  # diffusers has no penalty


class Renoising(Strict):
    """Each step accepts the surest tokens and draws the others anew; a `confidence_threshold` of 0 runs all steps."""

    name: ClassVar[str] = GEMMA4_RENOISE
    max_denoising_steps: Steps = 48
    entropy_bound: Amount = 0.1
    t_min: Annotated[float, Field(strict=True, ge=0)] = 0.4
    t_max: Annotated[float, Field(strict=True, ge=LEAST, le=100)] = 0.8
    confidence_threshold: Annotated[float, Field(strict=True, ge=0, le=1000)] = 0.005
    stability_threshold: Steps = 1

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.t_min > self.t_max:
            raise ValueError(f"t_min ({self.t_min}) is above t_max ({self.t_max})")
        return self


Algorithm = Unmasking | Renoising
ALGORITHMS: dict[str, type[Algorithm]] = {made.name: made for made in (Unmasking, Editing, Renoising)}


def parse_algorithm(settings: TextSettings, known: Sequence[str] = tuple(ALGORITHMS)) -> Algorithm:
    """The algorithm of the settings, or the first of `known`; ValueError that lists what is allowed for a name or
    parameter it does not know.
    """
    name = settings.algorithm or known[0]
    if name not in known or name not in ALGORITHMS:
        raise ValueError(f"text.algorithm '{name}': the diffusers engine has {', '.join(known)} for this model")
    return parse(ALGORITHMS[name], settings.algorithm_config, f"text.algorithm_config of {name}")
