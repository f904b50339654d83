"""FLUX.1 Kontext."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import FluxKontextPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel

from tests.engines.diffusers.families import parts, tokenizers


def make(folder: Path) -> None:
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=parts.HIDDEN,
        pooled_projection_dim=parts.HIDDEN,
        axes_dims_rope=(2, 2, 4),
        guidance_embeds=True,
    )
    FluxKontextPipeline(
        scheduler=parts.flow_scheduler(use_dynamic_shifting=True),
        vae=parts.vae(halvings=5),  # it looks at images in a megapixel
        text_encoder=CLIPTextModel(parts.clip_encoder().config).eval(),
        tokenizer=tokenizers.clip(),
        text_encoder_2=parts.t5_encoder(),
        tokenizer_2=tokenizers.t5(),
        transformer=transformer,
    ).save_pretrained(folder)


CHECKPOINTS = {"flux1-kontext": parts.Checkpoint(make, 28, 3.5, parts.NOISED, parameters=frozenset({"true_cfg_scale"}))}
