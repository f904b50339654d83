"""Stable Diffusion XL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

from tests.engines.diffusers.families import parts, tokenizers


def make(folder: Path) -> None:
    torch.manual_seed(0)
    unet_class: Any = UNet2DConditionModel
    unet = unet_class(
        block_out_channels=(2, 4),
        layers_per_block=1,
        sample_size=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1),
        projection_class_embeddings_input_dim=6 * 8 + parts.HIDDEN,
        cross_attention_dim=2 * parts.HIDDEN,
        norm_num_groups=1,
    )
    second = parts.clip_encoder()
    pipeline: Any = StableDiffusionXLPipeline
    pipeline(
        vae=parts.vae(shift_factor=None),
        text_encoder=CLIPTextModel(second.config).eval(),
        tokenizer=tokenizers.clip(),
        text_encoder_2=second,
        tokenizer_2=tokenizers.clip(),
        unet=unet,
        scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
    ).save_pretrained(folder)


CHECKPOINTS = {"stable-diffusion-xl": parts.Checkpoint(make, 50, 5.0, parts.NOISED)}
