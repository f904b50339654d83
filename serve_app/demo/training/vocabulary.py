"""T5 tokenizers of few words: whole ones, most frequent first, and letters for all others; the bytes of CLIP's."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from transformers import T5Tokenizer

_CHARACTERS = "\u2581abcdefghijklmnopqrstuvwxyz0123456789.,!?'-:;()&\"/"


def count_words(captions: Iterable[str]) -> Counter[str]:
    """Of small letters."""
    return Counter(word for caption in captions for word in re.findall(r"[a-z0-9\-']+", caption.lower()))


def byte_characters() -> list[str]:
    """The 256 characters that stand for the bytes 0 to 255 in byte-level tokenizers, in the order of the bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}
    return [shown[byte] for byte in range(256)]


def make_t5(words: Sequence[str], charsmap: bytes | None, length: int, endings: Sequence[str] = ()) -> T5Tokenizer:
    """`charsmap` is SentencePiece's table nmt_nfkc_cf, which makes letters small; `length` the most tokens."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("\u2581" + word, -6.0) for word in words if len(word) > 1]
    pieces += [("\u2581" + letter, -8.0) for letter in _CHARACTERS[1:37]]
    pieces += [(character, -10.0) for character in _CHARACTERS]
    pieces += [(ending, -14.0) for ending in endings]
    make: Any = T5Tokenizer
    return make(vocab=pieces, extra_ids=0, model_max_length=length, _spm_precompiled_charsmap=charsmap)


def read_charsmap() -> bytes:
    """The table nmt_nfkc_cf, which is nowhere but in the models that SentencePiece trains."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    trained, pb2 = io.BytesIO(), sentencepiece_model_pb2
    trainer: Any = sentencepiece.SentencePieceTrainer
    trainer.train(
        sentence_iterator=iter(["any words will do, as only the table is wanted"] * 9),
        model_writer=trained,
        normalization_rule_name="nmt_nfkc_cf",
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model: Any = pb2.ModelProto()
    model.ParseFromString(trained.getvalue())
    return model.normalizer_spec.precompiled_charsmap
