"""Counts the tokens of a prompt as the model's own tokenizer sees it. Knows no engine."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any


class PromptCounter:
    """Of a checkpoint's tokenizers, that of the encoder that reads the longest prompts: FLUX's T5, not its CLIP."""

    def __init__(self, tokenizers: Collection[Any]) -> None:
        """`tokenizers` are transformers' own, or processors that hold one; ValueError where there is none."""
        bare = [getattr(tokenizer, "tokenizer", tokenizer) for tokenizer in tokenizers if tokenizer is not None]
        if not bare:
            raise ValueError("the checkpoint has no tokenizer")
        self._tokenizer = max(bare, key=lambda tokenizer: tokenizer.model_max_length)

    @classmethod
    def of_checkpoint(cls, model: str, revision: str | None = None) -> PromptCounter:
        """For a folder, or a hub id that is in the hub's cache. ValueError or OSError where its tokenizer is not."""
        from huggingface_hub import snapshot_download
        from transformers import AutoTokenizer

        folder = Path(model).expanduser()
        if not folder.is_dir():
            patterns = ["tokenizer*/*"]
            folder = Path(snapshot_download(model, revision=revision, allow_patterns=patterns, local_files_only=True))
        parts = sorted(part for part in folder.glob("tokenizer*") if part.is_dir())
        return cls([AutoTokenizer.from_pretrained(str(part), local_files_only=True) for part in parts])

    def count(self, prompt: str) -> int:
        """The prompt's own tokens, without those that mark its beginning and end."""
        return len(self._tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"])
