"""Tokenizers of letters and bytes alone, in the classes that the pipelines expect."""

from __future__ import annotations

from transformers import CLIPTokenizer, T5Tokenizer

from serve_app.demo.training.vocabulary import byte_characters

CLIP_BOS, CLIP_EOS = 512, 513
CLIP_VOCABULARY = 514
T5_VOCABULARY = 128
T5_PAD = 0
T5_MAX_TOKENS = 256
_T5_CHARACTERS = "\u2581abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'-"


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
