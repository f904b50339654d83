"""What the corpus is made from: words with their glosses, tables of facts, and the little grammar that both need."""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

Random = random.Random
Pair = tuple[str, str]
"""A question and its answer."""
T = TypeVar("T")

HERE = Path(__file__).parent
TABLES: dict[str, Any] = json.loads((HERE / "tables.json").read_text())
WORDS_FILE = HERE / "words.json"
"""Written by wordnet.py, too large for the history."""
IS_SAMPLE = not WORDS_FILE.exists()
WORDS: dict[str, Any] = json.loads((HERE / "sample.json" if IS_SAMPLE else WORDS_FILE).read_text())
"""A few hundred of them, for the tests, where words.json was not made."""

NOUNS: dict[str, dict[str, Any]] = WORDS["nouns"]
VERBS: dict[str, dict[str, Any]] = WORDS["verbs"]
ADJECTIVES: dict[str, dict[str, Any]] = WORDS["adjectives"]
NOUN_LIST, VERB_LIST, ADJECTIVE_LIST = sorted(NOUNS), sorted(VERBS), sorted(ADJECTIVES)
COMMON = [word for word in NOUN_LIST if NOUNS[word]["level"] == 1]
COUNTABLE = [word for word in NOUN_LIST if NOUNS[word]["countable"]]
UNKNOWN: list[str] = WORDS["unknown"][:-500]
"""Rare words that the model is to say it does not know."""
HELD_OUT_UNKNOWN: list[str] = WORDS["unknown"][-500:]

CATEGORIES = {
    "animal": "an animal",
    "plant": "a plant",
    "artifact": "a thing that people make",
    "person": "a person",
    "body": "a part of a body",
    "food": "a kind of food",
}
BY_CATEGORY = {name: [word for word in COUNTABLE if NOUNS[word]["cat"] == name] for name in CATEGORIES}

OPPOSITES: dict[str, str] = {}
for _first, _second in TABLES["opposites"]:
    OPPOSITES.setdefault(_first, _second)
for _first, _second in TABLES["opposites"]:
    OPPOSITES.setdefault(_second, _first)
PLURALS: dict[str, str] = dict(TABLES["irregular_plurals"])
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "x x twenty thirty forty fifty sixty seventy eighty ninety".split()


def require_words() -> None:
    """Stops a program that would train or measure on the sample."""
    if IS_SAMPLE:
        raise SystemExit(f"{WORDS_FILE} is missing: make it first, see README.md beside it")


def with_article(word: str) -> str:
    """`a fox`, `an owl`."""
    vowel = word[0].lower() in "aeiou" and not re.match(r"(uni|use|usu|eu|one|ura)", word)
    return ("an " if vowel else "a ") + word


def named(word: str) -> str:
    """`a fox`, but `bread`."""
    return with_article(word) if NOUNS[word]["countable"] else word


def capitalize(text: str) -> str:
    """The first letter alone in upper case."""
    return text[:1].upper() + text[1:]


def pluralize(word: str) -> str:
    """`foxes`, `mice`."""
    if word in PLURALS:
        return PLURALS[word]
    if word.endswith(("s", "x", "ch", "sh", "z")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word.removesuffix("man") + "men" if word.endswith("man") and word != "human" else word + "s"


def in_words(number: int) -> str:
    """A number up to 1,000."""
    if number < 20:
        return _NUMBERS[number]
    if number < 100:
        return _TENS[number // 10] + (f"-{_NUMBERS[number % 10]}" if number % 10 else "")
    if number < 1000:
        return f"{_NUMBERS[number // 100]} hundred" + (f" and {in_words(number % 100)}" if number % 100 else "")
    return "one thousand"


def spell(word: str) -> str:
    """`F-O-X`."""
    return "-".join(word.upper())


def enumerate_words(words: Sequence[str]) -> str:
    """`apples, pears and plums`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def settle(options: Sequence[T], key: str) -> T:
    """One of `options`, the same for the same key: where any would do, one that can be learned takes fewer steps."""
    return options[zlib.crc32(key.encode()) % len(options)]


def invent_word(r: Random) -> str:
    """A word that does not exist, most of the time."""
    middle = "".join(r.choice(TABLES["syllables"]) for _ in range(r.randint(2, 4)))
    return middle + r.choice(["", "", "n", "r", "st", "x", "l"])


def mumble(r: Random, length: int) -> str:
    """Words without a meaning."""
    small = ["the", "of", "and", "is", "to", "in", "not", "with", "a", "that", "for", "it"]
    kinds = (
        lambda: r.choice(NOUN_LIST),
        lambda: invent_word(r),
        lambda: r.choice(VERB_LIST),
        lambda: str(r.randint(0, 999)),
        lambda: r.choice(small),
    )
    return " ".join(r.choice(kinds)() for _ in range(length))
