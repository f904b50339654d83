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
    """SGLang's `model_id`, a name on the hub without its owner; None where SGLang is to find it out by itself."""
    if model.model_id is None and not Path(model.model).is_dir():
        return None  # a hub id, which SGLang knows or tells by its files
    family = look_up(model)
    if family is not None and family.sglang:
        return family.sglang
    return model.model_id.rpartition("/")[2] if model.model_id else None


def check_known(model_id: str) -> None:
    """Raises ValueError where SGLang has no such model: it would guess by the folder's name, with a line of log."""
    from sglang.multimodal_gen.registry import _MODEL_HF_PATH_TO_NAME as KNOWN

    names: dict[str, str] = {str(id).rpartition("/")[2].lower(): id for id in KNOWN}
    if model_id.lower() not in names:
        close = difflib.get_close_matches(model_id.lower(), names, n=5, cutoff=0.3)
        allowed = ", ".join(names[name] for name in close or sorted(names))
        raise ValueError(f"model_id: SGLang knows no model '{model_id}'. Allowed: hub ids such as {allowed}")


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
