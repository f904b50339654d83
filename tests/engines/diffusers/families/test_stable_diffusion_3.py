"""Stable Diffusion 3."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

from tests.engines.diffusers.families import parts, tokenizers

JOINT = 2 * parts.HIDDEN


def make(folder: Path) -> None:
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=JOINT,
        pooled_projection_dim=2 * parts.HIDDEN,
        out_channels=16,
        pos_embed_max_size=64,
    )
    StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=parts.flow_scheduler(),
        vae=parts.vae(16),
        text_encoder=parts.clip_encoder(),
        tokenizer=tokenizers.clip(),
        text_encoder_2=parts.clip_encoder(),
        tokenizer_2=tokenizers.clip(),
        text_encoder_3=parts.t5_encoder(JOINT),
        tokenizer_3=tokenizers.t5(),
    ).save_pretrained(folder)


CHECKPOINTS = {"stable-diffusion-3": parts.Checkpoint(make, 28, 7.0, parts.NOISED)}
