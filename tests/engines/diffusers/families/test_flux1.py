"""FLUX.1 dev, as the demo's checkpoint is, and schnell, which takes no guidance and is distilled to few steps."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel

from tests.engines.diffusers.families import parts, tokenizers


def make_schnell(folder: Path) -> None:
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
        guidance_embeds=False,
    )
    FluxPipeline(
        scheduler=parts.flow_scheduler(),
        vae=parts.vae(),
        text_encoder=CLIPTextModel(parts.clip_encoder().config).eval(),
        tokenizer=tokenizers.clip(),
        text_encoder_2=parts.t5_encoder(),
        tokenizer_2=tokenizers.t5(),
        transformer=transformer,
    ).save_pretrained(folder)


CHECKPOINTS = {
    "flux1-schnell": parts.Checkpoint(make_schnell, 4, 0.0, parts.NOISED, parameters=frozenset({"true_cfg_scale"}))
}
