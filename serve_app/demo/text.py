"""The text checkpoint: a small ModernBert masked language model with random layers and an English output bias.

It says nothing sensible. Its output bias allows printable ASCII alone, in about the frequencies of English, so every
request gives max_tokens readable characters; the layers make them depend on the prompt, the place and the seed.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from diffusers import BlockRefinementScheduler
from transformers import ModernBertConfig, ModernBertForMaskedLM

from serve_app.demo import Advance, tokenizers
from serve_app.demo.weights import draw

PARTS = ("model", "tokenizer", "scheduler")
CONTEXT = 8192
LAYERS = 2
_FREQUENCIES = (
    " 18 e10.2 t7.5 a6.5 o6.2 n5.7 i5.7 s5.3 r5.0 h4.9 l3.3 d3.3 u2.3 c2.2 m2.0 f2.0 w1.7 g1.6 p1.5 y1.4 b1.3 v0.8 "
    "k0.6 x0.14 j0.1 q0.09 z0.06"
)
_FORBIDDEN = -1.0e4


def make(folder: Path, advance: Advance) -> None:
    """Writes model, tokenizer and scheduler in the layout of a LLaDA2 checkpoint for diffusers."""
    _model().save_pretrained(folder)
    advance("model")
    tokenizers.byte_level().save_pretrained(folder)
    advance("tokenizer")
    BlockRefinementScheduler(block_length=32).save_pretrained(folder / "scheduler")
    advance("scheduler")


def _model() -> ModernBertForMaskedLM:
    config = ModernBertConfig(
        vocab_size=tokenizers.BYTE_VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        layer_types=["full_attention"] * LAYERS,
        rope_parameters={
            kind: {"rope_type": "default", "rope_theta": 30.0} for kind in ("full_attention", "sliding_attention")
        },
        tie_word_embeddings=False,
        pad_token_id=tokenizers.PAD,
        eos_token_id=tokenizers.EOS,
        bos_token_id=None,
        cls_token_id=None,
        sep_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        model = ModernBertForMaskedLM(config)
    draw(model, seed=1, gain=4.0)
    with torch.no_grad():
        model.decoder.weight.mul_(1.5 / 4.0)
        model.decoder.bias.copy_(_output_bias())
    return model


def _output_bias() -> torch.Tensor:
    bias = torch.full((tokenizers.BYTE_VOCABULARY,), _FORBIDDEN)
    bias[32:127] = math.log(0.0002)
    for character, percent in _frequencies().items():
        bias[ord(character)] = math.log(percent / 100)
    for character in ".,":
        bias[ord(character)] = math.log(0.01)
    return bias


def _frequencies() -> dict[str, float]:
    letters = _FREQUENCIES[1:].split()
    return {" ": float(letters[0])} | {entry[0]: float(entry[1:]) for entry in letters[1:]}
