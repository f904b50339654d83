"""What is known of a model's family before it is loaded: a row for each that SGLang 0.5.23 serves natively.

`diffusion-serve check` reads it on machines that have neither SGLang nor the weights. Imports no engine's library.
"""

import json
import re
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from serve_app.model_settings import ModelSettings, TextSettings

LOW_CONFIDENCE, JOINT_THRESHOLD, GEMMA4_RENOISE = "LowConfidence", "JointThreshold", "Gemma4Renoise"
"""Algorithms of text models, by SGLang's names."""
INDEX, CONFIG = "model_index.json", "config.json"


@dataclass(frozen=True, slots=True)
class Family:
    """`name` stands in the table of serve_app/README.md. A checkpoint is of this family by its pipeline's class, or a
    text model's architecture, or by its id on the hub, which begins with `id`.

    `guided`: each step runs the model twice, with and without the prompt; other families take guidance as an input.
    `distilled` is what the ids of those checkpoints have that need no guidance although their family is guided.
    `sglang` is the member of the family by which SGLang knows all of them, where one pipeline of its fits them all.
    `algorithms` are those that both engines have for a text model, the default first.
    """

    name: str
    classes: tuple[str, ...]
    id: str
    guided: bool = True
    distilled: str = ""
    sglang: str = ""
    algorithms: tuple[str, ...] = ()


FAMILIES = (
    Family("FLUX.1", ("FluxPipeline",), "black-forest-labs/FLUX.1-", guided=False, sglang="FLUX.1-dev"),
    Family("FLUX.2", ("Flux2Pipeline",), "black-forest-labs/FLUX.2-dev", guided=False, sglang="FLUX.2-dev"),
    Family("FLUX.2 klein", ("Flux2KleinPipeline",), "black-forest-labs/FLUX.2-klein-", distilled=r"klein-(?!base)"),
    Family("Qwen-Image-Edit", ("QwenImageEditPipeline", "QwenImageEditPlusPipeline"), "Qwen/Qwen-Image-Edit"),
    Family("Qwen-Image", ("QwenImagePipeline",), "Qwen/Qwen-Image"),
    Family("Z-Image", ("ZImagePipeline",), "Tongyi-MAI/Z-Image", distilled="Turbo"),
    Family("Wan 2.1 and 2.2", ("WanPipeline", "WanImageToVideoPipeline"), "Wan-AI/"),
    Family("LLaDA2", ("LLaDA2MoeModelLM",), "inclusionAI/LLaDA2", algorithms=(LOW_CONFIDENCE, JOINT_THRESHOLD)),
    Family(
        "DiffusionGemma", ("DiffusionGemmaForBlockDiffusion",), "google/diffusiongemma", algorithms=(GEMMA4_RENOISE,)
    ),
)


def look_up(model: ModelSettings) -> Family | None:
    """The family by the checkpoint's class, if its files are on this machine, else by its id; None if unknown.

    It is not `guided` where this checkpoint of it is distilled.
    """
    index = _read(model, INDEX)
    named = {index.get("_class_name"), *_read(model, CONFIG).get("architectures", ())}
    ids = [id for id in (model.model_id, model.model) if id]
    by_class = (family for family in FAMILIES if named & set(family.classes))
    by_id = (family for family in FAMILIES if any(id.startswith(family.id) for id in ids))
    family = next(chain(by_class, by_id), None)
    if family is None:
        return None
    distilled = index.get("is_distilled") or (family.distilled and any(re.search(family.distilled, id) for id in ids))
    return replace(family, guided=family.guided and not distilled)


def algorithms_of(model: TextSettings) -> tuple[str, ...]:
    """Those of its family, the default first; all of them where the family is not known."""
    known = look_up(model)
    return known.algorithms if known else (LOW_CONFIDENCE, JOINT_THRESHOLD, GEMMA4_RENOISE)


def _read(model: ModelSettings, name: str) -> dict[str, Any]:
    """A JSON file of the checkpoint, of a folder or of the hub's cache; empty where there is none."""
    path = Path(model.model).expanduser() / name
    try:
        if not path.is_file() and model.model.count("/") == 1:
            path = Path(str(try_to_load_from_cache(model.model, name, revision=model.revision)))
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
