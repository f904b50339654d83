"""Words and their meanings out of WordNet's and SCOWL's files, of which a few lines stand here."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.demo.training.text.wordnet import clean_gloss, make_words

NOUNS = (
    "00000001 05 n 01 fox 0 000 | alert carnivorous mammal (of the dog family); most are predators\n"
    "00000002 13 n 01 honey 0 000 | a sweet yellow liquid produced by bees\n"
    "00000003 18 n 01 Mozart 0 000 | prolific Austrian composer and child prodigy\n"
    "00000004 05 n 01 quokka 0 000 | small short-tailed wallaby of Australia\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    wordnet, scowl = tmp_path / "usr/share/wordnet", tmp_path / "usr/share/dict/scowl"
    wordnet.mkdir(parents=True)
    scowl.mkdir(parents=True)
    (wordnet / "data.noun").write_text("  1 a licence\n" + NOUNS)
    names = ("fox", "honey", "mozart", "quokka")
    (wordnet / "index.noun").write_text("".join(f"{n} n 1 0 1 0 0000000{i}\n" for i, n in enumerate(names, 1)))
    (wordnet / "data.verb").write_text('00000001 40 v 01 borrow 0 000 01 + 02 00 | get temporarily; "May I?"\n')
    (wordnet / "index.verb").write_text("borrow v 1 0 1 1 00000001\n")
    (wordnet / "data.adj").write_text("00000001 00 a 01 brave 0 000 | possessing courage\n")
    (wordnet / "index.adj").write_text("brave a 1 0 1 1 00000001\n")
    (wordnet / "cntlist.rev").write_text("borrow%2:40:00:: 1 9\nbrave%3:00:00:: 1 7\nfox%1:05:00:: 1 5\n")
    (wordnet / "verb.exc").write_text("ate eat\n")
    (scowl / "english-words.10").write_text("fox\nhoney\nmozart\nborrow\nbrave\n")
    return tmp_path


def test_sentences(root: Path) -> None:
    made = make_words(root)
    assert made["nouns"]["fox"]["sentence"] == "A fox is an alert carnivorous mammal."
    assert made["nouns"]["honey"]["sentence"] == "Honey is a sweet yellow liquid produced by bees."
    assert made["nouns"]["dog"]["sentence"].startswith("A dog is a friendly animal"), "one of our own meanings"
    assert made["verbs"]["borrow"]["sentence"] == "To borrow means to get temporarily."
    assert made["adjectives"]["brave"]["sentence"] == "Brave means possessing courage."


def test_names_are_left_out_and_rare_words_unknown(root: Path) -> None:
    made = make_words(root)
    assert "mozart" not in made["nouns"]
    assert made["unknown"] == ["quokka"]


@pytest.mark.parametrize(
    ("gloss", "wanted"),
    [
        ("(botany) a plant; a living organism", "a plant"),
        ('"only an example"', ""),
        ("single", ""),
        ("costs 5 $ a piece", ""),
    ],
)
def test_glosses(gloss: str, wanted: str) -> None:
    assert clean_gloss(gloss) == wanted
