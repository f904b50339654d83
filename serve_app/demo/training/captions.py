"""The image model's tokenizers, learnt from captions: whole words for T5, pieces of words for CLIP."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from serve_app.demo.training.scenes import Maker
from serve_app.demo.training.things import THINGS
from serve_app.demo.training.vocabulary import byte_characters, count_words, make_t5
from serve_app.demo.training.wording import pluralize

T5_TOKENS, CLIP_TOKENS = 40, 24
CLIP_VOCABULARY = 1024


class Encoder:
    """Captions to tokens, as the pipelines make them: padded to T5_TOKENS and CLIP_TOKENS."""

    def __init__(self, folder: Path) -> None:
        self._t5 = Tokenizer.from_file(str(folder / "tokenizer_2/tokenizer.json"))
        self._clip = Tokenizer.from_file(str(folder / "tokenizer/tokenizer.json"))
        for tokenizer in (self._t5, self._clip):
            tokenizer.no_truncation()
            tokenizer.no_padding()
        self.t5_vocabulary: int = self._t5.get_vocab_size()
        self.clip_vocabulary: int = self._clip.get_vocab_size()
        self.clip_end = self._clip.get_vocab()["<|endoftext|>"]

    def encode(self, captions: Sequence[str]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """(B, T5_TOKENS) and (B, CLIP_TOKENS)."""
        t5 = [encoding.ids for encoding in self._t5.encode_batch(list(captions))]
        clip = [encoding.ids for encoding in self._clip.encode_batch(list(captions))]
        return _fill(t5, T5_TOKENS, pad=0, end=1), _fill(clip, CLIP_TOKENS, self.clip_end, self.clip_end)


def _fill(rows: list[list[int]], length: int, pad: int, end: int) -> NDArray[np.int16]:
    filled = np.full((len(rows), length), pad, np.int16)
    for target, row in zip(filled, rows, strict=True):
        ids = row if len(row) <= length else [*row[: length - 1], end]
        target[: len(ids)] = ids
    return filled


def write_tokenizers(charsmap: bytes | None, folder: Path, count: int = 60_000) -> None:
    """Writes `tokenizer` and `tokenizer_2`. SentencePiece's table `charsmap`, nmt_nfkc_cf, makes letters small.

    They are learnt from `count` scenes.
    """
    captions = _make_captions(count)
    make_t5(_choose_words(captions), charsmap, T5_TOKENS).save_pretrained(folder / "tokenizer_2")
    _make_clip(captions).save_pretrained(folder / "tokenizer")


def _make_captions(count: int) -> list[str]:
    maker = Maker(seed=7)
    captions = [caption for _ in range(count) for caption in maker.make().captions]
    nouns = [noun for thing in THINGS for noun in thing.nouns]
    return captions + [form for noun in nouns for form in (noun, pluralize(noun)) for _ in range(5)]


def _choose_words(captions: list[str]) -> list[str]:
    """Without those that nobody but `Wording` says, and too seldom."""
    return [word for word, times in count_words(captions).most_common() if times >= 5 and len(word) > 1]


def _make_clip(captions: list[str]) -> CLIPTokenizer:
    learner: Any = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=None))
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+|(?<=\W)|(?=\W)"), behavior="removed")
    trainer = trainers.BpeTrainer(vocab_size=CLIP_VOCABULARY, end_of_word_suffix="</w>", show_progress=False)
    learner.train_from_iterator((re.sub(r"[^a-z ]", " ", caption.lower()) for caption in captions), trainer)
    characters = byte_characters()
    tokens = [*characters, *(f"{character}</w>" for character in characters)]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges: list[tuple[str, str]] = []
    for first, second in _read_merges(learner):
        if first in vocabulary and second in vocabulary and len(vocabulary) < CLIP_VOCABULARY - 2:
            vocabulary.setdefault(first + second, len(vocabulary))
            merges.append((first, second))
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    make: Any = CLIPTokenizer
    return make(vocab=vocabulary, merges=merges, model_max_length=CLIP_TOKENS)


def _read_merges(learner: Tokenizer) -> list[tuple[str, str]]:
    merges = json.loads(learner.to_str())["model"]["merges"]
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    return [(first, second) for first, second in pairs]
