"""The image checkpoint: every part of a FLUX pipeline at small size.

Nothing in it is trained, but the weights are arranged so that a picture is more than noise: the autoencoder gives
colours back, the transformer takes the noise out, and its attention paints waves whose shape and colours come from the
letters of the prompt, and patches that come from the seed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from serve_app.demo import Advance, tokenizers, weights
from serve_app.demo.weights import CHANNELS, LATENTS, PATCH, fill, noise

PARTS = ("text encoders", "transformer", "vae", "pipeline")
TEXT = 32
HEADS, HEAD = 2, 64
HIDDEN = HEADS * HEAD
PANGRAM = "the quick brown fox jumps over the lazy dog, and a red cat sleeps under a green tree by the sea"
WAVES = 1.5
"""How sharply attention tells places apart."""
PAINT = 3.0
"""How strong what attention paints is beside the noise."""
LETTERS = 4.0
"""How strong the letters paint beside the noise around."""
TINT = 0.03
"""How much the whole prompt colours the whole picture."""
AROUND = 1.5
"""How strong the noise around a place paints."""
STEADY = 24.0
"""The constant in each token, large beside the norm of the noise, 8."""
FADE = 1.6
"""How fast the noise goes: exp(-FADE) of it is left, and of an edited picture more, the less of it was noise."""
CONTRAST = 0.6


def make(folder: Path, advance: Advance) -> None:
    """Writes the pipeline in diffusers' layout."""
    with torch.random.fork_rng(devices=[]):
        clip, t5 = _clip(), _t5()
        advance("text encoders")
        transformer = _transformer(t5)
        advance("transformer")
        vae = _vae()
        advance("vae")
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            base_image_seq_len=256,
            base_shift=0.5,
            max_image_seq_len=4096,
            max_shift=1.15,
            shift=3.0,
            use_dynamic_shifting=True,
        ),
        vae=vae,
        text_encoder=clip,
        tokenizer=tokenizers.clip(),
        text_encoder_2=t5,
        tokenizer_2=tokenizers.t5(),
        transformer=transformer,
    )
    pipeline.save_pretrained(folder)
    advance("pipeline")


def _clip() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=tokenizers.CLIP_VOCABULARY,
        hidden_size=TEXT,
        intermediate_size=64,
        num_attention_heads=4,
        num_hidden_layers=2,
        projection_dim=TEXT,
        bos_token_id=tokenizers.CLIP_BOS,
        eos_token_id=tokenizers.CLIP_EOS,
    )
    model = CLIPTextModel(config)
    weights.draw(model, seed=2, gain=1.5)
    return model


def _t5() -> T5EncoderModel:
    config = T5Config(
        vocab_size=tokenizers.T5_VOCABULARY,
        d_model=TEXT,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    model: Any = T5EncoderModel(config)
    weights.draw(model, seed=3, gain=1.5)
    weights.look_back([model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias])
    tokenizers.silence_padding(model.shared)
    return model


def _transformer(t5: Any) -> FluxTransformer2DModel:
    model: Any = FluxTransformer2DModel(
        patch_size=1,
        in_channels=LATENTS * PATCH,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=HEAD,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT,
        pooled_projection_dim=TEXT,
        axes_dims_rope=(8, 28, 28),
        guidance_embeds=True,
    )
    weights.draw(model, seed=4)
    basis = weights.centered(5, HIDDEN, LATENTS * PATCH + 1)
    embed, constant = basis[:, :-1], basis[:, -1]
    smooth = embed @ weights.flat_patches()
    # beside a large constant, normalizing a token divides it by much the same whatever it holds
    fill(model.x_embedder, embed, STEADY * constant)
    # so the velocity is the noise itself, plus what attention paints: the noise fades as the picture comes
    fill(model.proj_out, embed.T * FADE * STEADY / math.sqrt(HIDDEN))
    fill(model.norm_out.linear, torch.cat([torch.zeros(HIDDEN, HIDDEN), TINT * smooth @ noise(6, LATENTS, HIDDEN)]))
    # the tint comes from the prompt, a little from the guidance, and not from the time: it would grow in the last steps
    fill(model.time_text_embed.timestep_embedder.linear_2, 0.0)
    block = model.transformer_blocks[0]
    _paint(block.attn, embed, smooth, _letters_apart(t5, model.context_embedder))
    open_gate = torch.zeros(6, HIDDEN)
    open_gate[2] = 1.0
    fill(block.norm1.linear, 0.0, open_gate.flatten())
    fill(block.norm1_context.linear, 0.0)
    fill(model.single_transformer_blocks[0].norm.linear, 0.0)
    return model


def _letters_apart(t5: Any, embedder: Any) -> torch.Tensor:
    """(HIDDEN, HIDDEN): takes away what all tokens of a text have in common, which would tint every picture."""
    ids = tokenizers.t5()(PANGRAM, return_tensors="pt").input_ids
    with torch.no_grad():
        tokens = torch.nn.functional.layer_norm(embedder(t5(ids).last_hidden_state[0]), (HIDDEN,))
    common = torch.nn.functional.normalize(tokens.mean(dim=0), dim=0)
    return torch.eye(HIDDEN) - torch.outer(common, common)


def _paint(attention: Any, embed: torch.Tensor, smooth: torch.Tensor, apart: torch.Tensor) -> None:
    """Head 0 looks from each place at the letters of the prompt, head 1 at the noise around it."""
    at_text, at_noise = noise(7, HEAD), noise(8, HEAD)
    none = torch.zeros(HEAD)
    fill(attention.to_q, 0.0, torch.cat([at_text, at_noise]))
    fill(attention.to_k, 0.0, torch.cat([none, at_noise]))
    around = noise(9, HEAD, LATENTS * PATCH) @ embed.T * STEADY / HIDDEN * AROUND
    fill(attention.to_v, torch.cat([torch.zeros(HEAD, HIDDEN), around]))
    letters = torch.zeros(HIDDEN, HIDDEN)
    letters[:HEAD] = noise(10, HEAD, HIDDEN) / math.sqrt(HIDDEN)
    fill(attention.add_k_proj, letters @ apart)
    letters[:HEAD] = noise(11, HEAD, HIDDEN) * LETTERS / math.sqrt(HIDDEN)
    fill(attention.add_v_proj, letters @ apart)
    with torch.no_grad():
        attention.norm_q.weight.fill_(WAVES)
    fill(attention.to_out[0], PAINT * smooth @ noise(12, LATENTS, HIDDEN) / math.sqrt(LATENTS))


def _vae() -> AutoencoderKL:
    config: dict[str, Any] = {
        "sample_size": 1024,
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (CHANNELS,) * 4,
        "layers_per_block": 1,
        "latent_channels": LATENTS,
        "norm_num_groups": 1,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 1.0,
        "shift_factor": 0.0,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    model: Any = AutoencoderKL(**config)
    weights.draw(model, seed=13)
    weights.pass_through(model, ("conv2", "to_out.0"))
    colors = weights.palette(14) * CONTRAST
    center, mean, blur = torch.zeros(3, 3), torch.zeros(3, 3), torch.tensor([1.0, 2.0, 1.0]) / 4
    center[1, 1], mean[:2, :2] = 1.0, 0.25
    each = torch.eye(CHANNELS)
    encoder, decoder = model.encoder, model.decoder
    fill(encoder.conv_in, _kernels(weights.paired(torch.eye(3)), center), weights.paired_bias())
    for down in encoder.down_blocks[:-1]:
        fill(down.downsamplers[0].conv, _kernels(each, mean))
    to_latents = torch.cat([weights.unpaired(colors.T / CONTRAST**2), torch.zeros(LATENTS, CHANNELS)])
    # the second half is the logarithm of the variance: as good as none
    fill(encoder.conv_out, _kernels(to_latents, center), torch.tensor([0.0, -20.0]).repeat_interleave(LATENTS))
    fill(decoder.conv_in, _kernels(weights.paired(colors), center), weights.paired_bias())
    for up in decoder.up_blocks[:-1]:
        fill(up.upsamplers[0].conv, _kernels(each, torch.outer(blur, blur)))
    fill(decoder.conv_out, _kernels(weights.unpaired(torch.eye(3)), center))
    return model


def _kernels(matrix: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """(out, in, 3, 3): `matrix` between channels, `kernel` over places."""
    return matrix[:, :, None, None] * kernel
