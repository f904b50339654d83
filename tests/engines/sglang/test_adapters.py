"""What SGLang's workers are told of adapters. The workers are played: they need a GPU (tests/gpu has the real ones)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from serve_app.engines.sglang.adapters import Adapters
from serve_app.errors import GenerationFailed, UnsupportedParameter
from serve_app.model_settings import AdapterSettings
from serve_app.tasks import Adapter
from tests.engines.sglang.played import install

A, B = Adapter(name="acme/a", scale=0.5), Adapter(name="b", scale=1.0)


@dataclass
class SetLoraReq:
    """The fields of 0.5.23's (runtime/entrypoints/control_requests.py), less the one that we leave alone."""

    lora_nickname: str | list[str]
    lora_path: str | list[str | None] | None = None
    target: str | list[str] = "all"
    strength: float | list[float] = 1.0
    merge_mode: str | None = None


@dataclass
class UnmergeLoraWeightsReq:
    target: str = "all"


@dataclass
class ListLorasReq:
    pass


class Workers:
    """Answer as SGLang's do; `matching` names the files that change a layer of the model."""

    def __init__(self, matching: set[str]) -> None:
        self.sent: list[Any] = []
        self.fail: GenerationFailed | None = None
        self._matching = matching
        self._active = False

    async def send(self, message: Any) -> Any:
        await asyncio.sleep(0)
        if self.fail:
            raise self.fail
        if isinstance(message, ListLorasReq):
            return SimpleNamespace(output={"active": {"transformer": [{}]} if self._active else {}})
        self.sent.append(message)
        self._active = isinstance(message, SetLoraReq) and bool(self._matching & set(message.lora_path or ()))
        return SimpleNamespace(output=None)


@pytest.fixture(autouse=True)
def _messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """SGLang's own messages, where it is not installed."""
    messages = {message.__name__: message for message in (SetLoraReq, UnmergeLoraWeightsReq, ListLorasReq)}
    install(monkeypatch, {"sglang.multimodal_gen.runtime.entrypoints.control_requests": messages})


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, AdapterSettings]:
    found: dict[str, AdapterSettings] = {}
    for adapter in (A, B):
        path = tmp_path / f"{adapter.scale}.safetensors"
        save_file({"transformer.blocks.0.lora_A.weight": np.zeros((2, 2), np.float32)}, path)
        found[adapter.name] = AdapterSettings(path=str(path), scale=adapter.scale)
    return found


def files(settings: dict[str, AdapterSettings]) -> set[str]:
    return {adapter.path for adapter in settings.values()}


async def test_one_is_computed_beside_the_weights_and_several_are_merged(settings: dict[str, AdapterSettings]) -> None:
    adapters, workers = Adapters(settings), Workers(files(settings))
    for chosen in ((A,), (A, B), ()):
        await adapters.apply(chosen, workers.send)
    path_a, path_b = (settings[adapter.name].path for adapter in (A, B))
    assert workers.sent == [
        SetLoraReq(lora_nickname=["acme/a"], lora_path=[path_a], strength=[0.5], merge_mode="dynamic"),
        SetLoraReq(lora_nickname=["acme/a", "b"], lora_path=[path_a, path_b], strength=[0.5, 1.0], merge_mode="merge"),
        UnmergeLoraWeightsReq(),
    ]


async def test_nothing_is_sent_where_nothing_changes(settings: dict[str, AdapterSettings]) -> None:
    adapters, workers = Adapters(settings), Workers(files(settings))
    for chosen in ((), (A,), (A,), (Adapter(name=A.name, scale=2.0),)):
        await adapters.apply(chosen, workers.send)
    assert [message.strength for message in workers.sent] == [[0.5], [2.0]]


async def test_after_a_failure_the_state_is_set_again(settings: dict[str, AdapterSettings]) -> None:
    adapters, workers = Adapters(settings), Workers(files(settings))
    await adapters.apply((A,), workers.send)
    workers.fail = GenerationFailed("CUDA out of memory")
    with pytest.raises(GenerationFailed):
        await adapters.apply((B,), workers.send)
    workers.fail = None
    await adapters.apply((A,), workers.send)
    assert [message.lora_nickname for message in workers.sent] == [["acme/a"], ["acme/a"]]


async def test_each_is_loaded_at_the_start_and_none_is_left_on(settings: dict[str, AdapterSettings]) -> None:
    adapters, workers = Adapters(settings), Workers(files(settings))
    await adapters.load(workers.send)
    assert [getattr(message, "lora_nickname", None) for message in workers.sent] == [["acme/a"], ["b"], None]


async def test_one_that_changes_no_layer_stops_the_start(settings: dict[str, AdapterSettings]) -> None:
    workers = Workers({settings[A.name].path})
    with pytest.raises(GenerationFailed, match=r"adapter 'b' .* does not fit this model: it changes no layer of it"):
        await Adapters(settings).load(workers.send)
    workers.fail = GenerationFailed("The size of tensor a must match")
    with pytest.raises(GenerationFailed, match=r"adapter 'acme/a' .*: The size of tensor a must match"):
        await Adapters(settings).load(workers.send)


async def test_one_that_is_not_configured_is_refused(settings: dict[str, AdapterSettings]) -> None:
    workers = Workers(set())
    with pytest.raises(UnsupportedParameter, match="no adapter 'other'"):
        await Adapters(settings).apply((Adapter(name="other", scale=1.0),), workers.send)
    assert workers.sent == []


def test_a_file_that_is_missing_or_no_lora_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    settings = {"a": AdapterSettings(path=str(path))}
    with pytest.raises(ValueError, match=r"the adapter 'a' .* does not exist"):
        Adapters(settings)
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="no safetensors file"):
        Adapters(settings)
    save_file({"weight": np.zeros(1, np.float32)}, path)
    with pytest.raises(ValueError, match="holds no LoRA"):
        Adapters(settings)
