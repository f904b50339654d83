"""The data step of the image model: sprites of all things, and tokenizers.

    npm install --prefix DIR @iconify-json/noto@1.2.9 @iconify-json/fluent-emoji@1.2.7 \\
        @iconify-json/fluent-emoji-flat@1.2.6 emojibase-data@17.0.0 @resvg/resvg-js@2.6.2
    pip install sentencepiece protobuf
    python -m serve_app.demo.training.data DIR data

takes a minute or two, and needs node besides. No Debian package is needed. Noto Emoji is Apache-2.0, Fluent Emoji and
emojibase are MIT; emojibase's labels come from Unicode CLDR. It writes sprites.npz, tokenizer and tokenizer_2.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from serve_app.demo.training.captions import write_tokenizers
from serve_app.demo.training.sprites import write_sprites


def main() -> None:
    """The command line."""
    packages, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    write_sprites(packages, folder / "sprites.npz")
    write_tokenizers(read_charsmap(), folder)


def read_charsmap() -> bytes:
    """SentencePiece's table nmt_nfkc_cf, which is nowhere but in the models that it trains."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    trained, pb2 = io.BytesIO(), sentencepiece_model_pb2
    trainer: Any = sentencepiece.SentencePieceTrainer
    sentences = iter(["any words will do, as only the table is wanted"] * 9)
    options = {"vocab_size": 40, "hard_vocab_limit": False, "minloglevel": 2}
    trainer.train(sentence_iterator=sentences, model_writer=trained, normalization_rule_name="nmt_nfkc_cf", **options)
    model: Any = pb2.ModelProto()
    model.ParseFromString(trained.getvalue())
    return model.normalizer_spec.precompiled_charsmap


if __name__ == "__main__":
    main()
