"""The video checkpoint: a small Wan with the layout of Wan2.2-TI2V-5B, for text-to-video and image-to-video.

Nothing in it is trained, but the weights are arranged as those of the image checkpoint: the autoencoder gives colours
back, the transformer takes the noise out and paints drifting patches of it, and the prompt chooses the colours.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

from serve_app.demo import Advance, tokenizers, weights
from serve_app.demo.weights import CHANNELS, COLORS, LATENTS, PATCH, fill, noise

PARTS = ("text encoder", "transformer", "vae", "pipeline")
TEXT = 32
HIDDEN = LATENTS * PATCH
NEAR = 2.0
"""How sharply attention tells near places from far ones."""
PAINT = 2.0
"""How strong what attention paints is beside the noise."""
TINT = 1.0
"""How strong the colours of the prompt are beside the noise."""
CONTRAST = 1.3
PIXELS = 4
"""Pixels of a 2x2 patch, which the autoencoder takes as channels, as Wan2.2's does: convolutions at full size cost."""


def make(folder: Path, advance: Advance) -> None:
    """Writes the pipeline in diffusers' layout."""
    with torch.random.fork_rng(devices=[]):
        text_encoder = _text_encoder()
        advance("text encoder")
        transformer = _transformer()
        advance("transformer")
        vae = _vae()
        advance("vae")
    parts: dict[str, Any] = {
        "tokenizer": tokenizers.t5(),
        "text_encoder": text_encoder,
        "vae": vae,
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
        ),
        "transformer": transformer,
    }
    WanPipeline(**parts, expand_timesteps=True).save_pretrained(folder)
    advance("pipeline")


def _text_encoder() -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=tokenizers.T5_VOCABULARY,
        d_model=TEXT,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    model: Any = UMT5EncoderModel(config)
    weights.draw(model, seed=6, gain=1.5)
    weights.look_back(block.layer[0].SelfAttention.relative_attention_bias for block in model.encoder.block)
    return model


def _transformer() -> WanTransformer3DModel:
    model: Any = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=HIDDEN // 2,
        in_channels=LATENTS,
        out_channels=LATENTS,
        text_dim=TEXT,
        freq_dim=HIDDEN,
        ffn_dim=HIDDEN,
        num_layers=1,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        eps=1e-6,
        rope_max_seq_len=1024,
    )
    weights.draw(model, seed=7)
    embed = weights.orthonormal(8, HIDDEN, HIDDEN)
    smooth = embed @ weights.flat_patches()
    fill(model.patch_embedding, embed.view(HIDDEN, LATENTS, 1, 2, 2))
    # the normalized tokens back to latents, whose channels come last here
    fill(model.proj_out, embed.T.view(LATENTS, PATCH, HIDDEN).transpose(0, 1).reshape(HIDDEN, HIDDEN))
    # neither the time nor the layers' own tables change what the tokens hold: only attention does
    fill(model.condition_embedder.time_proj, 0.0)
    fill(model.condition_embedder.time_embedder.linear_2, 0.0)
    block = model.blocks[0]
    with torch.no_grad():
        model.scale_shift_table.zero_()
        block.scale_shift_table.zero_()
        block.scale_shift_table[:, 2] = 1.0
        block.attn1.norm_q.weight.fill_(NEAR)
    around = noise(9, HIDDEN)
    fill(block.attn1.to_q, 0.0, around)
    fill(block.attn1.to_k, 0.0, around)
    fill(block.attn1.to_v, noise(10, HIDDEN, HIDDEN) / math.sqrt(HIDDEN))
    fill(block.attn1.to_out[0], PAINT * smooth @ noise(11, LATENTS, HIDDEN) / math.sqrt(LATENTS))
    fill(block.attn2.to_q, 0.0, noise(12, HIDDEN))
    fill(block.attn2.to_out[0], TINT * smooth @ noise(13, LATENTS, HIDDEN) / math.sqrt(LATENTS))
    return model


def _vae() -> AutoencoderKLWan:
    config: dict[str, Any] = {
        "base_dim": CHANNELS,
        "z_dim": LATENTS,
        "dim_mult": [1, 1, 1],
        "num_res_blocks": 1,
        "temperal_downsample": [True, True],
        "latents_mean": [0.0] * LATENTS,
        "latents_std": [1.0] * LATENTS,
        "in_channels": COLORS * PIXELS,
        "out_channels": COLORS * PIXELS,
        "patch_size": 2,
        "scale_factor_temporal": 4,
        "scale_factor_spatial": 8,
    }
    model: Any = AutoencoderKLWan(**config)
    weights.draw(model, seed=14)
    weights.pass_through(model, ("conv2", "proj"))
    _encode(model.encoder, weights.palette(15) * CONTRAST)
    fill(model.quant_conv, torch.eye(2 * LATENTS)[:, :, None, None, None])
    fill(model.post_quant_conv, torch.eye(LATENTS)[:, :, None, None, None])
    _decode(model.decoder, weights.palette(15) * CONTRAST)
    return model


def _encode(encoder: Any, colors: torch.Tensor) -> None:
    mean_of_pixels = torch.kron(torch.eye(COLORS), torch.ones(1, PIXELS) / PIXELS)
    mean = torch.zeros(3, 3)
    mean[:2, :2] = 0.25
    each = torch.eye(CHANNELS)
    fill(encoder.conv_in, _now(weights.paired(mean_of_pixels)), weights.paired_bias())
    for layer in encoder.down_blocks:
        if hasattr(layer, "time_conv"):
            fill(layer.resample[1], each[:, :, None, None] * mean)
            fill(layer.time_conv, each[:, :, None, None, None] * torch.tensor([0.0, 0.5, 0.5]).view(3, 1, 1))
    to_latents = torch.cat([weights.unpaired(colors.T / CONTRAST**2), torch.zeros(LATENTS, CHANNELS)])
    fill(encoder.conv_out, _now(to_latents))


def _decode(decoder: Any, colors: torch.Tensor) -> None:
    # between the layers a colour and the constant travel once each, in four channels: the layers halve their number
    single = torch.zeros(CHANNELS, LATENTS)
    single[:COLORS] = colors
    constant = torch.zeros(CHANNELS)
    constant[COLORS] = weights.CONSTANT
    fill(decoder.conv_in, _now(single), constant)
    row = torch.tensor([1.0, 2.0, 1.0]) / 4
    blur = torch.outer(row, row)
    twice = torch.eye(CHANNELS).repeat(2, 1)[:, :, None, None, None]
    times = torch.zeros(2 * CHANNELS, 1, 3, 1, 1)
    times[:CHANNELS, 0, 1:] = 0.5  # the first of two new frames lies between the one before and this one
    times[CHANNELS:, 0, 2] = 1.0
    first, second, last = decoder.up_blocks
    for block in (first, second):
        upsample = block.upsamplers[0]
        fill(upsample.time_conv, twice * times)
        fill(upsample.resample[1], torch.eye(CHANNELS)[: CHANNELS // 2, :, None, None] * blur)
    fill(second.resnets[0].conv_shortcut, torch.eye(CHANNELS)[:, : CHANNELS // 2, None, None, None])
    signed = torch.zeros(CHANNELS, CHANNELS // 2)
    for channel in range(CHANNELS // 2):
        signed[2 * channel, channel], signed[2 * channel + 1, channel] = 1.0, -1.0
    fill(last.resnets[0].conv_shortcut, signed[:, :, None, None, None])
    to_pixels = weights.unpaired(torch.eye(COLORS).repeat_interleave(PIXELS, dim=0))
    between = torch.stack([torch.outer(down, right) for right in _SHARES for down in _SHARES]).repeat(COLORS, 1, 1)
    kernels = torch.zeros(COLORS * PIXELS, CHANNELS, 3, 3, 3)
    kernels[:, :, 2] = to_pixels[:, :, None, None] * between[:, None]
    fill(decoder.conv_out, kernels)


_SHARES = (torch.tensor([0.25, 0.75, 0.0]), torch.tensor([0.0, 0.75, 0.25]))
"""What the first and the second pixel of a patch take of the place before, this one and the next."""


def _now(matrix: torch.Tensor) -> torch.Tensor:
    """(out, in, 3, 3, 3): `matrix` between channels, of this very place and frame; frames before come first."""
    kernels = torch.zeros(*matrix.shape, 3, 3, 3)
    kernels[:, :, 2, 1, 1] = matrix
    return kernels
