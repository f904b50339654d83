"""Tokenizers of the demo checkpoints: built from bytes and letters alone, in the classes that the pipelines expect."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CLIPTokenizer, T5Tokenizer

CLIP_BOS, CLIP_EOS = 512, 513
CLIP_VOCABULARY = 514
T5_VOCABULARY = 128
T5_PAD = 0
T5_MAX_TOKENS = 256
_T5_CHARACTERS = "\u2581abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'-"


def byte_characters() -> list[str]:
    """The 256 characters that stand for the bytes 0 to 255 in byte-level tokenizers, in the order of the bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}
    return [shown[byte] for byte in range(256)]


def clip() -> CLIPTokenizer:
    """CLIP's tokenizer without merges: one token a byte."""
    characters = byte_characters()
    tokens = [*characters, *(f"{character}</w>" for character in characters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=77)


def t5() -> T5Tokenizer:
    """T5's tokenizer with one token a letter, digit or mark."""
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return T5Tokenizer(
        vocab=[*specials, *((character, -5.0) for character in _T5_CHARACTERS)],
        extra_ids=0,
        model_max_length=T5_MAX_TOKENS,
    )


def silence_padding(embedding: Any) -> None:
    """Padding says nothing: FLUX gives its text encoder no mask, and there is more padding than text."""
    with torch.no_grad():
        embedding.weight[T5_PAD] = 0.0
