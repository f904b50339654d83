"""The data step of the image and video models: sprites, and tokenizers learnt from captions.

    npm install --prefix DIR @iconify-json/noto@1.2.9 @iconify-json/fluent-emoji@1.2.7 \\
        @iconify-json/fluent-emoji-flat@1.2.6 emojibase-data@17.0.0 @resvg/resvg-js@2.6.2
    pip install sentencepiece protobuf
    python -m serve_app.demo.training.data DIR FOLDER

takes a minute or two, and needs node besides; no Debian package. It writes FOLDER/image (sprites of each of THINGS in
each of STYLES) and FOLDER/video. Noto Emoji is Apache-2.0, Fluent Emoji and emojibase are MIT; emojibase's labels come
from Unicode CLDR.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from serve_app.demo.training import clips
from serve_app.demo.training.captions import write_tokenizers
from serve_app.demo.training.footage import TOKENS
from serve_app.demo.training.sprites import write_sprites
from serve_app.demo.training.stage import LABELS
from serve_app.demo.training.things import STYLES, THINGS
from serve_app.demo.training.vocabulary import count_words, make_t5, read_charsmap

WORDS_BESIDES = (
    "the of and with it its is are this that his her their through around between behind across into over under near "
    "slowly quickly fast slow day night sunny dark bright toward towards forward forwards backward backwards upward "
    "upwards downward downwards left right up down leftward rightward leftwards rightwards moves move walks runs flies "
    "swims drives sails rolls floats bounces jumps falls rises explores two three some zoom zooms"
)
"""What people may say of clips beside what captions do."""


def main() -> None:
    """The command line."""
    packages, folder = Path(sys.argv[1]), Path(sys.argv[2])
    charsmap = read_charsmap()
    write_image_data(packages, folder / "image", charsmap)
    write_video_data(packages, folder / "video", charsmap)


def write_image_data(packages: Path, folder: Path, charsmap: bytes) -> None:
    """sprites.npz, tokenizer and tokenizer_2."""
    folder.mkdir(parents=True, exist_ok=True)
    drawings = [(thing.label, style) for thing in THINGS for style in STYLES]
    write_sprites(packages, folder / "sprites.npz", drawings)
    write_tokenizers(charsmap, folder)


def write_video_data(packages: Path, folder: Path, charsmap: bytes) -> None:
    """sprites.npz, concepts.json, which says where in it a thing is, and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = sorted(LABELS)
    write_sprites(packages, folder / "sprites.npz", [(label, "noto") for label in labels])
    concepts = [{"label": label, "sprites": {"noto": number}} for number, label in enumerate(labels)]
    (folder / "concepts.json").write_text(json.dumps({"concepts": concepts}))
    maker = clips.ClipMaker(7)
    words = count_words(maker.clip().caption for _ in range(60_000))
    for thing in clips.THINGS:
        words.update(word for noun in thing.nouns for word in noun.split())
    words.update(WORDS_BESIDES.split())
    chosen = [word for word, _ in words.most_common()]
    make_t5(chosen, charsmap, TOKENS, ("ing", "ed", "er", "es")).save_pretrained(folder / "tokenizer")


if __name__ == "__main__":
    main()
