"""The families that SGLang 0.5.23 has a pipeline of its own for, a row each. Imports nothing of SGLang.

`diffusion-serve check` reads this table too, on machines that have neither SGLang nor the weights.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from serve_app.model_settings import ModelSettings

SINCE = "0.5.23"
"""The first release that this engine works with: it cancels and counts steps by its ways."""

INDEX = "model_index.json"


@dataclass(frozen=True, slots=True)
class Family:
    """`name` stands in the table of serve_app/README.md. A checkpoint is of this family by its class, or by its id on
    the hub, which begins with `id`.

    `guided`: each step runs the model twice, with and without the prompt; other families take guidance as an input.
    `distilled` is what the ids of those checkpoints have that need no guidance although their family is guided.
    """

    name: str
    classes: tuple[str, ...]
    id: str
    guided: bool = True
    distilled: str = ""


FAMILIES = (
    Family("FLUX.1", ("FluxPipeline",), "black-forest-labs/FLUX.1-", guided=False),
    Family("FLUX.2", ("Flux2Pipeline",), "black-forest-labs/FLUX.2-dev", guided=False),
    Family("FLUX.2 klein", ("Flux2KleinPipeline",), "black-forest-labs/FLUX.2-klein-", distilled=r"klein-(?!base)"),
    Family("Qwen-Image-Edit", ("QwenImageEditPipeline", "QwenImageEditPlusPipeline"), "Qwen/Qwen-Image-Edit"),
    Family("Qwen-Image", ("QwenImagePipeline",), "Qwen/Qwen-Image"),
    Family("Z-Image", ("ZImagePipeline",), "Tongyi-MAI/Z-Image", distilled="Turbo"),
    Family("Wan 2.1 and 2.2", ("WanPipeline", "WanImageToVideoPipeline"), "Wan-AI/"),
    Family("LLaDA2", ("LLaDA2MoeModelLM",), "inclusionAI/LLaDA2"),
)
INPUT_IMAGES = {
    "Flux2PipelineConfig": 10,
    "Flux2KleinPipelineConfig": 4,
    "QwenImageEditPipelineConfig": 1,
    "QwenImageEditPlusPipelineConfig": 3,
}
"""How many images an edit takes, by the class of a pipeline's configuration in SGLang."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is known of a model before it is loaded."""

    family: Family
    distilled: bool

    @property
    def guided(self) -> bool:
        return self.family.guided and not self.distilled


def look_up(model: ModelSettings) -> Checkpoint | None:
    """The family by the class in its model_index.json, if that is on this machine, else by its id; None if unknown."""
    index = _read_index(model)
    for family in FAMILIES:
        if index.get("_class_name") in family.classes:
            return Checkpoint(family, bool(index.get("is_distilled")) or _is_distilled(family, model))
    for family in FAMILIES:
        if any(id.startswith(family.id) for id in _ids(model)):
            return Checkpoint(family, _is_distilled(family, model))
    return None


def _is_distilled(family: Family, model: ModelSettings) -> bool:
    return bool(family.distilled) and any(re.search(family.distilled, id) for id in _ids(model))


def _ids(model: ModelSettings) -> list[str]:
    return [id for id in (model.model_id, model.model) if id]


def _read_index(model: ModelSettings) -> dict[str, Any]:
    """The checkpoint's model_index.json, of a folder or of the hub's cache; empty where there is none."""
    path = Path(model.model).expanduser() / INDEX
    try:
        if not path.is_file() and model.model.count("/") == 1:
            path = Path(str(try_to_load_from_cache(model.model, INDEX, revision=model.revision)))
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
