"""Small random adapters for checkpoints of tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

RANK = 4


def write_adapter(path: Path, model: Any, seed: int, *, prefix: str = "transformer", strength: float = 0.3) -> Path:
    """A LoRA of the model's attention, drawn by lot, as diffusers and `serve_app.demo.training.adapter` write one."""
    lot = torch.Generator().manual_seed(seed)
    weights: dict[str, torch.Tensor] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and "block" in name and name.endswith(("to_q", "to_v", "to_out.0", "proj_out")):
            down = torch.randn(RANK, layer.in_features, generator=lot) * strength
            up = torch.randn(layer.out_features, RANK, generator=lot) * strength
            weights[f"{prefix}.{name}.lora_A.weight"] = down.half()
            weights[f"{prefix}.{name}.lora_B.weight"] = up.half()
    save_file(weights, path, metadata={"format": "pt"})
    return path
