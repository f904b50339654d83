"""LTX-Video, before and after 0.9.5."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo, LTXConditionPipeline, LTXPipeline, LTXVideoTransformer3DModel

from tests.engines.diffusers.families import parts, tokenizers

LATENTS = 8


def make(folder: Path, cls: Any) -> None:
    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(
        in_channels=LATENTS,
        out_channels=LATENTS,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=parts.HIDDEN,
    )
    vae = AutoencoderKLLTXVideo(
        latent_channels=LATENTS,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False),
        decoder_spatio_temporal_scaling=(True, True, True, False),
        decoder_inject_noise=(False, False, False, False, False),
        upsample_residual=(False, False, False, False),
        upsample_factor=(1, 1, 1, 1),
    )
    cls(
        scheduler=parts.flow_scheduler(),
        vae=vae.eval(),
        text_encoder=parts.t5_encoder(),
        tokenizer=tokenizers.t5(),
        transformer=transformer,
    ).save_pretrained(folder)


CHECKPOINTS = {
    "ltx-video": parts.Checkpoint(partial(make, cls=LTXPipeline), 50, 3.0, parts.FROM_IMAGE),
    "ltx-video-0.9.5": parts.Checkpoint(
        partial(make, cls=LTXConditionPipeline), 50, 3.0, parts.FROM_IMAGE | {"last_frame"}
    ),
}
