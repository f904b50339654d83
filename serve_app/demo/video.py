"""The video checkpoint: a small Wan with the layout of Wan2.2-TI2V-5B, for text-to-video and image-to-video."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from serve_app.demo import Advance, tokenizers
from serve_app.demo.weights import draw

PARTS = ("text encoder", "transformer", "vae", "pipeline")
LATENTS = 16


def make(folder: Path, advance: Advance) -> None:
    """Writes the pipeline in diffusers' layout."""
    with torch.random.fork_rng(devices=[]):
        text_encoder = _text_encoder()
        advance("text encoder")
        transformer = _transformer()
        advance("transformer")
        vae = _vae()
        advance("vae")
    pipeline = WanPipeline(
        tokenizer=tokenizers.t5(),
        text_encoder=text_encoder,
        vae=vae,
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
        ),
        transformer=transformer,
        expand_timesteps=True,
    )
    pipeline.save_pretrained(folder)
    advance("pipeline")


def _text_encoder() -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=tokenizers.T5_VOCABULARY,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    model = UMT5EncoderModel(config)
    draw(model, seed=6, gain=1.5)
    return model


def _transformer() -> WanTransformer3DModel:
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=32,
        in_channels=LATENTS,
        out_channels=LATENTS,
        text_dim=32,
        freq_dim=64,
        ffn_dim=64,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        eps=1e-6,
        rope_max_seq_len=1024,
    )
    draw(model, seed=7)
    return model


def _vae() -> AutoencoderKLWan:
    # half the spatial compression is patches, as in Wan2.2's VAE: what costs on CPUs is the full-size convolutions
    model = AutoencoderKLWan(
        base_dim=8,
        z_dim=LATENTS,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * LATENTS,
        latents_std=[1.0] * LATENTS,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_temporal=4,
        scale_factor_spatial=8,
    )
    draw(model, seed=8)
    return model
