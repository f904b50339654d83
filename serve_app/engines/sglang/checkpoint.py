"""What SGLang is told of a checkpoint: which of the models that it knows this is, and how long its prompts are.

It goes by the name of the folder, which says nothing where the folder is a user's own.
"""

import difflib
import json
from pathlib import Path
from typing import Any

from serve_app.engines.families import look_up
from serve_app.model_settings import ModelSettings


def known_as(model: ModelSettings) -> str | None:
    """A model that SGLang knows and whose pipeline fits this one; None where SGLang is to find it out by itself."""
    if model.model_id is None and not Path(model.model).is_dir():
        return None  # a hub id, which SGLang knows or tells by its files
    family = look_up(model)
    return (family.sglang if family else "") or model.model_id


def own_name(model_id: str) -> str:
    """The hub id without its owner, as SGLang compares it. Raises ValueError where it knows no such model: it
    would guess by the folder's name, with a line of log.
    """
    from sglang.multimodal_gen.registry import _MODEL_HF_PATH_TO_NAME as KNOWN

    name = model_id.rpartition("/")[2]
    names: dict[str, str] = {str(id).rpartition("/")[2].lower(): id for id in KNOWN}
    if name.lower() not in names:
        close = difflib.get_close_matches(name.lower(), names, n=5, cutoff=0.3)
        allowed = ", ".join(names[known] for known in close or sorted(names))
        raise ValueError(f"model_id: SGLang knows no model '{name}'. Allowed: hub ids such as {allowed}")
    return name


def fit_prompts(config: Any, folder: Path) -> None:
    """Pads prompts of `config`, SGLang's of a pipeline, to no more tokens than a local checkpoint's tokenizers allow.

    SGLang pads to the lengths of the published checkpoints, which a smaller one may not take; diffusers asks as we do.
    """
    config.text_encoder_extra_args = [
        _fit(arguments, folder / ("tokenizer" if place == 1 else f"tokenizer_{place}"))
        for place, arguments in enumerate(config.text_encoder_extra_args, 1)
    ]


def _fit(arguments: dict[str, Any], tokenizer: Path) -> dict[str, Any]:
    try:
        longest = json.loads((tokenizer / "tokenizer_config.json").read_text()).get("model_max_length")
    except OSError:
        return arguments
    if longest is None or "max_length" not in arguments:
        return arguments
    return arguments | {"max_length": min(arguments["max_length"], longest)}
