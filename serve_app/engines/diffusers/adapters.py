"""Adapters (LoRA): every file of the settings is loaded at the start, and each call says which of them count.

Loaded layers that are switched off compute what the model alone computes, bit for bit.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from serve_app.engines.diffusers.caching import denoisers
from serve_app.engines.lora import fetch_file, refuse_unknown
from serve_app.model_settings import AdapterSettings
from serve_app.tasks import Adapter

LAYER = re.compile(r"(?:transformer|unet)\.(.+)\.lora_A\.weight")
SHOWN = 3
"""How many layers an error names."""


class Adapters:
    """Those of one pipeline, and of every other that shares its parts."""

    def __init__(self, pipeline: Any, settings: Mapping[str, AdapterSettings]) -> None:
        """Loads the files; ValueError for one that is missing or unfit, with the reason."""
        self._pipeline = pipeline
        # peft takes no dots and slashes in a name
        self._names = {name: f"adapter_{number}" for number, name in enumerate(settings)}
        for name, adapter in settings.items():
            try:
                self._load(self._names[name], load_file(fetch_file(adapter.path)))
            except Exception as error:  # diffusers and peft raise what comes to hand: all of it says what does not fit
                what, reason = f"the adapter '{name}' ({adapter.path})", str(error) or type(error).__name__
                raise ValueError(f"{what} does not fit this {type(pipeline).__name__}: {reason}") from error
        self.apply(())

    def apply(self, chosen: Sequence[Adapter]) -> None:
        """Switches to these alone, each at its scale."""
        if not chosen:
            if self._names:
                self._pipeline.disable_lora()
            return
        refuse_unknown(chosen, self._names)
        names = [self._names[adapter.name] for adapter in chosen]
        self._pipeline.set_adapters(names, [adapter.scale for adapter in chosen])
        self._pipeline.enable_lora()

    def _load(self, name: str, weights: dict[str, Tensor]) -> None:
        if not hasattr(self._pipeline, "load_lora_weights"):
            raise ValueError("diffusers loads no adapters into this pipeline")
        wanted = _layers_in(self._pipeline, weights)
        second = getattr(self._pipeline, "transformer_2", None) is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of peft, that there is a second adapter
            self._pipeline.load_lora_weights(dict(weights), adapter_name=name)
            if second:
                self._pipeline.load_lora_weights(dict(weights), adapter_name=name, load_into_transformer_2=True)
        for module in denoisers(self._pipeline):
            _check_loaded(module, name, wanted)


def _layers_in(pipeline: Any, weights: dict[str, Tensor]) -> set[str]:
    """The layers that the file changes, by diffusers' names: files of other trainers are converted."""
    converted = pipeline.lora_state_dict(dict(weights))
    state: Mapping[str, Tensor] = converted[0] if isinstance(converted, tuple) else converted
    return {found[1] for key in state if (found := LAYER.fullmatch(key))}


def _check_loaded(module: Any, name: str, wanted: set[str]) -> None:
    """ValueError unless every layer was found in the model: diffusers only warns of those that were not."""
    loaded = {layer for layer, part in module.named_modules() if name in getattr(part, "lora_A", ())}
    if missing := sorted(wanted - loaded):
        raise ValueError(f"the model lacks {len(missing)} of its layers, such as {', '.join(missing[:SHOWN])}")
    if not loaded:
        raise ValueError("it changes no layer of the model")
