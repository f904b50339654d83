"""Small random parts of pipelines: real classes, a few thousand weights. Each family's test puts its own together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    T5Config,
    T5EncoderModel,
)

from serve_app.demo.training.vocabulary import byte_characters
from tests.engines.diffusers.families import tokenizers


@dataclass(frozen=True)
class Checkpoint:
    """How one is written into a folder, and what the contract of families then holds it to.

    `can` is what its card says beside progress, cancel and previews.
    """

    make: Callable[[Path], None]
    num_inference_steps: int
    guidance_scale: float
    can: frozenset[str] = frozenset()
    input_images: int = 1
    parameters: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TextCheckpoint:
    """How one is written into a folder. `samples` are the sampling parameters that change its texts."""

    make: Callable[[Path], None]
    algorithm: str
    block_length: int
    samples: frozenset[str]
    algorithm_config: dict[str, float | int | bool | str] = field(default_factory=dict[str, float | int | bool | str])


NOISED = frozenset({"edit", "mask", "negative_prompt"})
FROM_IMAGE = frozenset({"image_to_video", "negative_prompt"})
HIDDEN = 16
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
VOCABULARY = 256 + len(SPECIALS)
CHAT = "{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>{% endfor %}<|im_start|>"


def qwen_tokenizer() -> Any:
    """One token a byte, and the marks of Qwen's chats."""
    vocabulary = {character: index for index, character in enumerate(byte_characters())}
    tokenizer: Any = Qwen2Tokenizer(vocab=vocabulary | {"<|endoftext|>": 256}, merges=[], model_max_length=4096)
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIALS[1:])})
    tokenizer.chat_template = CHAT
    return tokenizer


def qwen_encoder() -> Any:
    torch.manual_seed(1)
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": HIDDEN,
            "intermediate_size": HIDDEN,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
            "vocab_size": VOCABULARY,
        },
        vision_config={
            "depth": 1,
            "hidden_size": HIDDEN,
            "intermediate_size": HIDDEN,
            "num_heads": 2,
            "out_hidden_size": HIDDEN,
        },
        image_token_id=256 + SPECIALS.index("<|image_pad|>"),
        vision_start_token_id=256 + SPECIALS.index("<|vision_start|>"),
        vision_end_token_id=256 + SPECIALS.index("<|vision_end|>"),
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def qwen_vae(halvings: int = 3) -> Any:
    torch.manual_seed(2)
    vae: Any = AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1] * (halvings + 1),
        num_res_blocks=1,
        temperal_downsample=[index > 0 for index in range(halvings)],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(16)  # so that small differences are seen
    return vae.eval()


def clip_encoder() -> Any:
    torch.manual_seed(3)
    config = CLIPTextConfig(
        vocab_size=tokenizers.CLIP_VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN,
        num_attention_heads=2,
        num_hidden_layers=3,
        projection_dim=HIDDEN,
        bos_token_id=tokenizers.CLIP_BOS,
        eos_token_id=tokenizers.CLIP_EOS,
    )
    return CLIPTextModelWithProjection(config).eval()


def t5_encoder(hidden: int = HIDDEN) -> Any:
    torch.manual_seed(4)
    config = T5Config(
        vocab_size=tokenizers.T5_VOCABULARY, d_model=hidden, d_kv=8, d_ff=hidden, num_layers=2, num_heads=2
    )
    return T5EncoderModel(config).eval()


def vae(latents: int = 4, halvings: int = 3, **changes: Any) -> Any:
    torch.manual_seed(5)
    values: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * (halvings + 1),
        "up_block_types": ("UpDecoderBlock2D",) * (halvings + 1),
        "block_out_channels": (4,) * (halvings + 1),
        "layers_per_block": 1,
        "latent_channels": latents,
        "norm_num_groups": 1,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "shift_factor": 0.1,
        "scaling_factor": 0.4,
    }
    return AutoencoderKL(**(values | changes)).eval()


def flow_scheduler(**changes: Any) -> Any:
    return FlowMatchEulerDiscreteScheduler(**changes)
