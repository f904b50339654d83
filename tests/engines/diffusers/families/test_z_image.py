"""Z-Image, and Turbo, which its scheduler tells."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from diffusers import ZImagePipeline, ZImageTransformer2DModel
from transformers import Qwen3Config, Qwen3Model

from tests.engines.diffusers.families import parts


def make(folder: Path, shift: float) -> None:
    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=parts.HIDDEN,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    with torch.no_grad():  # these two are made without values
        transformer.x_pad_token.fill_(1.0)
        transformer.cap_pad_token.fill_(1.0)
    config = Qwen3Config(
        vocab_size=parts.VOCABULARY,
        hidden_size=parts.HIDDEN,
        intermediate_size=parts.HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )
    ZImagePipeline(
        scheduler=parts.flow_scheduler(shift=shift),
        vae=parts.vae(16),
        text_encoder=Qwen3Model(config).eval(),
        tokenizer=parts.qwen_tokenizer(),
        transformer=transformer,
    ).save_pretrained(folder)


CHECKPOINTS = {
    "z-image-turbo": parts.Checkpoint(partial(make, shift=3.0), 9, 0.0, parts.NOISED),
    "z-image": parts.Checkpoint(partial(make, shift=6.0), 50, 4.0, parts.NOISED),
}
