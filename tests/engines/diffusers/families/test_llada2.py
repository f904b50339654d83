"""LLaDA 2.x, on the class that stands for its own: LLaDA2's code comes with its checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import ModernBertConfig, ModernBertForMaskedLM, PreTrainedTokenizerFast

from serve_app.demo.training.vocabulary import byte_characters
from tests.engines.diffusers.families.parts import TextCheckpoint

SPECIALS = ("<mask>", "<eos>", "<pad>")


def make(folder: Path) -> None:
    vocabulary = {character: index for index, character in enumerate((*byte_characters(), *SPECIALS))}
    bytes_alone = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=bytes_alone, mask_token="<mask>", eos_token="<eos>", pad_token="<pad>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    model = ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=256,
            pad_token_id=vocabulary["<pad>"],
            eos_token_id=vocabulary["<eos>"],
        )
    )
    with torch.no_grad():  # words that can be read, and no end
        model.decoder.bias.fill_(-40.0)
        model.decoder.bias[[vocabulary[letter] for letter in "abcdefgh"]] = 0.0
    model.save_pretrained(folder)


CHECKPOINTS = {
    "llada2": TextCheckpoint(make, "LowConfidence", 32, frozenset({"temperature", "top_p", "top_k", "seed"})),
}
