"""The parts of the small Wan checkpoint, and ways to run them that suit training.

diffusers' own code walks a clip in pieces with a cache, and spreads one time over every token: the functions here give
the same numbers in one go, which a GPU likes better.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample, patchify, unpatchify
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

LATENTS = 24
TEXT = 192
WIDTH = 256
FLOW_SHIFT = 3.0


def make_autoencoder() -> AutoencoderKLWan:
    """8 pixels and 4 frames to one latent, with Wan2.2's residual blocks and pixel patches; small where it decodes."""
    arguments: dict[str, Any] = {
        "base_dim": 24,
        "decoder_base_dim": 24,
        "z_dim": LATENTS,
        "dim_mult": [1, 2, 2],
        "num_res_blocks": 1,
        "temperal_downsample": [True, True],
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "latents_mean": [0.0] * LATENTS,
        "latents_std": [1.0] * LATENTS,
        "scale_factor_temporal": 4,
        "scale_factor_spatial": 8,
    }
    return AutoencoderKLWan(**arguments)


def read_autoencoder(folder: Path) -> AutoencoderKLWan:
    """A finished one, with the measures of its latents, as `save` leaves it in the folder vae."""
    model: Any = make_autoencoder()
    model.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    measures = json.loads((folder / "config.json").read_text())
    model.register_to_config(latents_mean=measures["latents_mean"], latents_std=measures["latents_std"])
    return model


def make_text_encoder(vocabulary: int) -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=(vocabulary + 7) // 8 * 8,
        d_model=TEXT,
        d_kv=32,
        d_ff=384,
        num_layers=2,
        num_heads=6,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )
    return UMT5EncoderModel(config)


def make_transformer() -> WanTransformer3DModel:
    model: Any = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=WIDTH // 64,
        attention_head_dim=64,
        in_channels=LATENTS,
        out_channels=LATENTS,
        text_dim=TEXT,
        freq_dim=256,
        ffn_dim=2 * WIDTH,
        num_layers=8,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        eps=1e-6,
        rope_max_seq_len=1024,
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embedder.linear" not in name:
                nn.init.xavier_uniform_(weight)
        nn.init.zeros_(model.condition_embedder.time_proj.weight)
        nn.init.zeros_(model.condition_embedder.time_proj.bias)
        nn.init.zeros_(model.proj_out.weight)
        nn.init.zeros_(model.proj_out.bias)
        model.scale_shift_table.zero_()
        for block in model.blocks:
            block.scale_shift_table.zero_()
            block.scale_shift_table[:, [2, 5]] = 0.2  # the gates
    return model


def save(folder: Path, vae: Any, text_encoder: Any, transformer: Any, tokenizer: Any) -> None:
    """Writes the pipeline in diffusers' layout, in fp16; the models stay as they are."""
    halves: list[Any] = []
    fresh: Any
    for model, fresh in (
        (vae, AutoencoderKLWan.from_config(vae.config)),
        (text_encoder, UMT5EncoderModel(text_encoder.config)),
        (transformer, WanTransformer3DModel.from_config(transformer.config)),
    ):
        fresh.load_state_dict(model.state_dict())
        halves.append(fresh.half())
    scheduler: Any = make_scheduler()
    parts: dict[str, Any] = {"vae": halves[0], "text_encoder": halves[1], "transformer": halves[2]}
    pipeline = WanPipeline(tokenizer=tokenizer, scheduler=scheduler, expand_timesteps=True, **parts)
    pipeline.save_pretrained(folder)


def make_scheduler() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=FLOW_SHIFT
    )


def load_tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


# --- the autoencoder over a whole clip -------------------------------------------------------------------------------


def encode(vae: Any, pixels: Tensor) -> Tensor:
    """(B, 3, 4n + 1, H, W) to mean and logarithm of the variance, (B, 2 * LATENTS, n + 1, H / 8, W / 8)."""
    encoder = vae.encoder
    x = encoder.conv_in(patchify(pixels, vae.config.patch_size))
    for block in encoder.down_blocks:
        shortcut = block.avg_shortcut(x)
        for resnet in block.resnets:
            x = resnet(x)
        x = (x if block.downsampler is None else _downsample(block.downsampler, x)) + shortcut
    return vae.quant_conv(encoder.conv_out(encoder.nonlinearity(encoder.norm_out(encoder.mid_block(x)))))


def decode(vae: Any, latents: Tensor) -> Tensor:
    """The way back, not clamped."""
    decoder = vae.decoder
    x = decoder.mid_block(decoder.conv_in(vae.post_quant_conv(latents)))
    for block in decoder.up_blocks:
        shortcut = None if block.avg_shortcut is None else block.avg_shortcut(x, first_chunk=True)
        for resnet in block.resnets:
            x = resnet(x)
        x = x if block.upsampler is None else _upsample(block.upsampler, x)
        x = x if shortcut is None else x + shortcut
    x = decoder.conv_out(decoder.nonlinearity(decoder.norm_out(x)))
    return unpatchify(x, vae.config.patch_size)


def _downsample(layer: WanResample, x: Tensor) -> Tensor:
    x = _each_frame(layer, x)
    if layer.mode == "downsample3d" and x.shape[2] > 1:
        return torch.cat([x[:, :, :1], layer.time_conv(x)], 2)
    return x


def _upsample(layer: WanResample, x: Tensor) -> Tensor:
    if layer.mode == "upsample3d" and x.shape[2] > 1:
        later = layer.time_conv(x[:, :, 1:])
        batch, channels, frames, height, width = later.shape
        pairs = later.view(batch, 2, channels // 2, frames, height, width).permute(0, 2, 3, 1, 4, 5)
        x = torch.cat([x[:, :, :1], pairs.reshape(batch, channels // 2, 2 * frames, height, width)], 2)
    return _each_frame(layer, x)


def _each_frame(layer: WanResample, x: Tensor) -> Tensor:
    batch, frames = x.shape[0], x.shape[2]
    x = layer.resample(x.transpose(1, 2).flatten(0, 1))
    return x.unflatten(0, (batch, frames)).transpose(1, 2)


# --- the transformer with one time a frame ---------------------------------------------------------------------------


def velocity(model: Any, x: Tensor, times: Tensor, text: Tensor, run_block: Any) -> Tensor:
    """What the model says for times (B, frames) of 0 to 1000, as its `forward` does with a time for each token."""
    batch, _, frames, height, width = x.shape
    tokens = (height // 2) * (width // 2)
    rotary = model.rope(x)
    hidden = model.patch_embedding(x).flatten(2).transpose(1, 2).contiguous()
    embedder = model.condition_embedder
    time, modulation, context, _ = embedder(times.flatten(), text, None, timestep_seq_len=frames)
    modulation = modulation.unflatten(2, (6, -1))
    for block in model.blocks:
        hidden = run_block(block, hidden, context, modulation, rotary, tokens)
    shift, scale = (model.scale_shift_table.unsqueeze(0) + time.unsqueeze(2)).repeat_interleave(tokens, 1).chunk(2, 2)
    hidden = (model.norm_out(hidden.float()) * (1 + scale.squeeze(2)) + shift.squeeze(2)).type_as(hidden)
    patches = model.proj_out(hidden).view(batch, frames, height // 2, width // 2, 2, 2, -1)
    return patches.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, -1, frames, height, width)


def run_block(block: Any, hidden: Tensor, context: Tensor, modulation: Tensor, rotary: Any, tokens: int) -> Tensor:
    """One block, its modulation (B, frames, 6, WIDTH) spread over the tokens of each frame: fused when compiled."""
    batch, frames, parts, width = modulation.shape
    spread = modulation[:, :, None].expand(batch, frames, tokens, parts, width)
    return block(hidden, context, spread.reshape(batch, frames * tokens, parts, width), rotary)


def embed(text_encoder: Any, ids: Tensor) -> Tensor:
    """(B, tokens, TEXT) as the pipeline makes it: what stands for padding is zero."""
    mask = ids != text_encoder.config.pad_token_id
    return text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state * mask.unsqueeze(2)
