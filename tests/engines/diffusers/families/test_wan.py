"""Wan: text to video, image to video of two experts, and by first and last frame. The demo's is TI2V-5B."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

from tests.engines.diffusers.families import parts, tokenizers

LATENTS = 4
PLACES = 17
"""Of a picture of 64 x 64 pixels in patches of 16, and one more."""


def shared() -> dict[str, Any]:
    torch.manual_seed(0)
    vae = AutoencoderKLWan(
        base_dim=3,
        z_dim=LATENTS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * LATENTS,
        latents_std=[1.0] * LATENTS,
    )
    return {
        "tokenizer": tokenizers.t5(),
        "text_encoder": parts.t5_encoder(),
        "vae": vae.eval(),
        "scheduler": UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    }


def transformer(seed: int, **changes: Any) -> Any:
    torch.manual_seed(seed)
    values: dict[str, Any] = {
        "in_channels": LATENTS,
        "out_channels": LATENTS,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "text_dim": parts.HIDDEN,
        "freq_dim": 32,
        "ffn_dim": 32,
        "num_layers": 1,
        "rope_max_seq_len": 64,
    }
    return WanTransformer3DModel(**(values | changes))


FromImage: Any = WanImageToVideoPipeline


def make_from_text(folder: Path) -> None:
    WanPipeline(**shared(), transformer=transformer(1)).save_pretrained(folder)


def make_two_experts(folder: Path) -> None:
    channels = 2 * LATENTS + 4
    FromImage(
        **shared(),
        transformer=transformer(1, in_channels=channels),
        transformer_2=transformer(2, in_channels=channels),
        boundary_ratio=0.9,
        image_encoder=None,
        image_processor=None,
    ).save_pretrained(folder)


def make_seeing(folder: Path, *, last: bool) -> None:
    """Wan 2.1: what the image encoder sees of the first frame, or of both, goes into the transformer."""
    torch.manual_seed(3)
    config = CLIPVisionConfig(
        hidden_size=parts.HIDDEN,
        intermediate_size=parts.HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
    )
    seeing: dict[str, Any] = {"image_dim": parts.HIDDEN, "added_kv_proj_dim": 24}
    FromImage(
        **shared(),
        transformer=transformer(
            1, in_channels=2 * LATENTS + 4, **seeing, pos_embed_seq_len=2 * PLACES if last else None
        ),
        image_encoder=CLIPVisionModel(config).eval(),
        image_processor=CLIPImageProcessorPil(size={"height": 64, "width": 64}, crop_size={"height": 64, "width": 64}),
    ).save_pretrained(folder)


SHIFT = frozenset({"flow_shift"})
BOTH_ENDS = parts.FROM_IMAGE | {"last_frame"}
CHECKPOINTS = {
    "wan-t2v": parts.Checkpoint(make_from_text, 50, 5.0, frozenset({"negative_prompt"}), parameters=SHIFT),
    "wan-i2v": parts.Checkpoint(partial(make_seeing, last=False), 50, 5.0, parts.FROM_IMAGE, parameters=SHIFT),
    "wan-flf2v": parts.Checkpoint(partial(make_seeing, last=True), 50, 5.0, BOTH_ENDS, parameters=SHIFT),
    "wan-a14b": parts.Checkpoint(make_two_experts, 40, 3.5, BOTH_ENDS | {"two_experts"}, parameters=SHIFT),
}
