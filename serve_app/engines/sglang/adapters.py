"""Adapters (LoRA) on SGLang's workers: a state of theirs, set between generations. The messages are of SGLang 0.5.23.

One adapter is computed beside the weights ("dynamic"), which leaves them as they are; several at once SGLang can only
merge into the weights, and it restores them from a copy that it keeps.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from serve_app.engines.lora import fetch_file, refuse_unknown
from serve_app.errors import GenerationFailed
from serve_app.model_settings import AdapterSettings
from serve_app.tasks import Adapter

Send = Callable[[Any], Awaitable[Any]]
"""Hands a message to the workers between two generations, and gives what they answer."""


class Adapters:
    """Those of one model, and which of them the workers apply at present."""

    def __init__(self, settings: Mapping[str, AdapterSettings]) -> None:
        """ValueError for a file that is missing or no LoRA; whether it fits, only the workers can say."""
        self._settings = settings
        self._files: dict[str, str] = {}
        for name, adapter in settings.items():
            try:
                self._files[name] = str(fetch_file(adapter.path))
            except ValueError as error:
                raise ValueError(f"the adapter '{name}' ({adapter.path}): {error}") from error
        self._applied: tuple[Adapter, ...] | None = ()

    async def load(self, send: Send) -> None:
        """Has the workers load every file. GenerationFailed where one is unfit, with the reason."""
        from sglang.multimodal_gen.runtime.entrypoints.control_requests import ListLorasReq

        for name, adapter in self._settings.items():
            what = f"the adapter '{name}' ({adapter.path}) does not fit this model"
            try:
                await self.apply((Adapter(name=name, scale=adapter.scale),), send)
            except GenerationFailed as error:
                raise GenerationFailed(f"{what}: {error.message}") from error
            if not (await send(ListLorasReq())).output["active"]:
                raise GenerationFailed(f"{what}: it changes no layer of it")
        await self.apply((), send)

    async def apply(self, chosen: Sequence[Adapter], send: Send) -> None:
        """Switches to these alone, each at its scale, where others are applied."""
        from sglang.multimodal_gen.runtime.entrypoints.control_requests import SetLoraReq, UnmergeLoraWeightsReq

        wanted = tuple(chosen)
        if self._applied == wanted:
            return
        refuse_unknown(wanted, self._files)
        self._applied = None  # not known, should the message fail or its sender go away
        if wanted:
            message = SetLoraReq(
                lora_nickname=[adapter.name for adapter in wanted],
                lora_path=[self._files[adapter.name] for adapter in wanted],
                strength=[adapter.scale for adapter in wanted],
                target="all",
                merge_mode="dynamic" if len(wanted) == 1 else "merge",
            )
        else:
            message = UnmergeLoraWeightsReq()
        await send(message)
        self._applied = wanted
