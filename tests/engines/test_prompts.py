"""Prompts are counted by the model's own tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from serve_app import demo
from serve_app.engines.prompts import PromptCounter


def test_the_encoder_that_reads_the_most_counts() -> None:
    folder = demo.find("demo/flux-tiny")
    clip, t5 = (AutoTokenizer.from_pretrained(str(folder / name)) for name in ("tokenizer", "tokenizer_2"))
    counter = PromptCounter.of_checkpoint(str(folder))
    prompt = "A red fox in the snow, " * 30
    assert counter.count(prompt) == len(t5(prompt, add_special_tokens=False)["input_ids"])
    assert counter.count(prompt) == PromptCounter([clip, None, t5]).count(prompt)
    assert counter.count("") == 0
    assert counter.count("a red fox") < counter.count(prompt)


def test_a_checkpoint_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no tokenizer"):
        PromptCounter.of_checkpoint(str(tmp_path))
