"""Qwen-Image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import QwenImagePipeline, QwenImageTransformer2DModel

from tests.engines.diffusers.families import parts


def transformer() -> Any:
    torch.manual_seed(0)
    return QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=parts.HIDDEN,
        axes_dims_rope=(8, 4, 4),
    )


def make(folder: Path) -> None:
    QwenImagePipeline(
        scheduler=parts.flow_scheduler(use_dynamic_shifting=True),
        vae=parts.qwen_vae(),
        text_encoder=parts.qwen_encoder(),
        tokenizer=parts.qwen_tokenizer(),
        transformer=transformer(),
    ).save_pretrained(folder)


CHECKPOINTS = {"qwen-image": parts.Checkpoint(make, 50, 4.0, parts.NOISED)}
