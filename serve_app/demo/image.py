"""The image checkpoint: every part of a FLUX pipeline at small size."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from serve_app.demo import Advance, tokenizers
from serve_app.demo.weights import draw

PARTS = ("text encoders", "transformer", "vae", "pipeline")


def make(folder: Path, advance: Advance) -> None:
    """Writes the pipeline in diffusers' layout."""
    with torch.random.fork_rng(devices=[]):
        clip, t5 = _clip(), _t5()
        advance("text encoders")
        transformer = _transformer()
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
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_hidden_layers=2,
        projection_dim=32,
        bos_token_id=tokenizers.CLIP_BOS,
        eos_token_id=tokenizers.CLIP_EOS,
    )
    model = CLIPTextModel(config)
    draw(model, seed=2, gain=1.5)
    return model


def _t5() -> T5EncoderModel:
    config = T5Config(
        vocab_size=tokenizers.T5_VOCABULARY,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    model = T5EncoderModel(config)
    draw(model, seed=3, gain=1.5)
    return model


def _transformer() -> FluxTransformer2DModel:
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=64,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(8, 28, 28),
        guidance_embeds=True,
    )
    draw(model, seed=4)
    return model


def _vae() -> AutoencoderKL:
    model = AutoencoderKL(
        sample_size=1024,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.1159,
        scaling_factor=0.3611,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    draw(model, seed=5)
    return model
