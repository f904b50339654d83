"""SGLang's language models without a GPU: its real scheduler computes SDAR, small, in float32, on the CPU."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from serve_app.engines.sglang import mixed_batches

ARGUMENTS = {"device": "cpu", "attention_backend": "torch_native", "disable_cuda_graph": True, "dtype": "float32"}
ROTARY = """
import torch

def rotary_embedding(positions, query, key, head_size, table, is_neox):
    cos, sin = table.index_select(0, positions.flatten().long())[:, None].chunk(2, dim=-1)
    for heads in (query, key):
        view = heads.view(len(positions), -1, head_size)
        first, second = view.chunk(2, dim=-1)
        view.copy_(torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1))
"""
"""SGLang takes this one from vLLM where the processor lacks AMX; of torch alone here."""


def write_weights(folder: Path) -> None:
    """Of the small SDAR: such that texts differ, which those of SGLang's own dummies do not."""
    random = torch.Generator().manual_seed(1)
    config = json.loads((folder / "config.json").read_text())

    def weights(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=random) * 2 / columns**0.5

    width, inner, size = (config[key] for key in ("hidden_size", "intermediate_size", "head_dim"))
    queries, keys = (size * config[f"num_{key}_heads"] for key in ("attention", "key_value"))
    shapes = {f"self_attn.{name}_proj": (rows, width) for name, rows in zip("qkv", (queries, keys, keys), strict=True)}
    shapes |= {"self_attn.o_proj": (width, queries), "mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width)}
    shapes |= {"mlp.down_proj": (width, inner)}
    norms = {"self_attn.q_norm": size, "self_attn.k_norm": size}
    norms |= {"input_layernorm": width, "post_attention_layernorm": width}
    found = {f"{name}.weight": weights(config["vocab_size"], width) for name in ("model.embed_tokens", "lm_head")}
    found["model.embed_tokens.weight"] *= width**0.5
    found["model.norm.weight"] = torch.ones(width)
    for i in range(config["num_hidden_layers"]):
        found |= {f"model.layers.{i}.{name}.weight": weights(*shape) for name, shape in shapes.items()}
        found |= {f"model.layers.{i}.{name}.weight": torch.ones(length) for name, length in norms.items()}
    save_file(found, folder / "model.safetensors")


@contextmanager
def shims(folder: Path) -> Generator[None]:
    """What SGLang's processes find beside their packages: vLLM's function, and our plugin where it is not installed."""
    before = signal.getsignal(signal.SIGQUIT)
    files = {"vllm/__init__.py": "", "vllm/_custom_ops.py": ROTARY}
    files["mixed_batches-0.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: mixed-batches\nVersion: 0\n"
    plugin = f"[sglang.srt.plugins]\nmixed = {mixed_batches.__name__}:register\n"
    files["mixed_batches-0.dist-info/entry_points.txt"] = plugin
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    with pytest.MonkeyPatch.context() as patch:  # once: so does transformers with its own folder
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        yield
    signal.signal(signal.SIGQUIT, before)
