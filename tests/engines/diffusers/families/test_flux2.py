"""FLUX.2: dev, klein and the undistilled klein."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Pipeline, Flux2Transformer2DModel
from transformers import Mistral3Config, Mistral3ForConditionalGeneration, Qwen3Config, Qwen3ForCausalLM

from tests.engines.diffusers.families import parts

HIDDEN = 8
DEV_CHAT = (
    "{% for message in messages %}<|im_start|>"
    "{% for part in message.content %}{{ part.text }}{% endfor %}<|im_end|>{% endfor %}"
)


def transformer(**changes: Any) -> Any:
    torch.manual_seed(0)
    return Flux2Transformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * HIDDEN,
        axes_dims_rope=(4, 4, 4, 4),
        **changes,
    )


def vae() -> Any:
    torch.manual_seed(1)
    return AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4,) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
    ).eval()


def make_dev(folder: Path) -> None:
    torch.manual_seed(2)
    config = Mistral3Config(
        text_config={
            "model_type": "mistral",
            "vocab_size": parts.VOCABULARY,
            "hidden_size": HIDDEN,
            "intermediate_size": HIDDEN,
            "num_attention_heads": 2,
            "num_hidden_layers": 31,
            "num_key_value_heads": 2,
            "head_dim": 4,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": HIDDEN,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": HIDDEN,
        },
    )
    tokenizer = parts.qwen_tokenizer()
    tokenizer.chat_template = DEV_CHAT
    pipeline = Flux2Pipeline(
        scheduler=parts.flow_scheduler(use_dynamic_shifting=True),
        vae=vae(),
        text_encoder=Mistral3ForConditionalGeneration(config).eval(),
        tokenizer=tokenizer,
        transformer=transformer(),
    )
    pipeline.save_pretrained(folder)
    index = folder / "model_index.json"  # as the real checkpoint: a processor that needs torchvision
    index.write_text(json.dumps(json.loads(index.read_text()) | {"tokenizer": ["transformers", "PixtralProcessor"]}))


def make_klein(folder: Path, *, is_distilled: bool) -> None:
    torch.manual_seed(3)
    config = Qwen3Config(
        vocab_size=parts.VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN,
        num_hidden_layers=28,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=4,
    )
    Flux2KleinPipeline(
        scheduler=parts.flow_scheduler(use_dynamic_shifting=True),
        vae=vae(),
        text_encoder=Qwen3ForCausalLM(config).eval(),
        tokenizer=parts.qwen_tokenizer(),
        transformer=transformer(guidance_embeds=False),
        is_distilled=is_distilled,
    ).save_pretrained(folder)


CHECKPOINTS = {
    "flux2": parts.Checkpoint(make_dev, 50, 4.0, frozenset({"edit"}), 10),
    "flux2-klein": parts.Checkpoint(partial(make_klein, is_distilled=True), 4, 1.0, frozenset({"edit"}), 4),
    "flux2-klein-base": parts.Checkpoint(partial(make_klein, is_distilled=False), 50, 4.0, frozenset({"edit"}), 4),
}
