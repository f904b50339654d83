"""Makes words.json, which all the rest is drawn from: `python -m serve_app.demo.training.text.wordnet ROOT`.

ROOT is where Debian's packages wordnet-base and scowl were installed or unpacked (`/`, or a folder for which
`dpkg -x` was called). Common nouns, verbs and adjectives of WordNet 3.0, each with the first sense that fits, are
written as sentences; rarer nouns are kept as words that the model is to say it does not know. Seconds on one core.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).parent
CATEGORIES = (
    "thing act animal artifact attribute body idea communication event feeling food group place motive object person "
    "phenomenon plant possession process quantity relation shape state substance time"
).split()
"""Of WordNet's files 3 to 28."""
CONCRETE = {"animal", "food", "plant", "body", "artifact", "person", "object", "substance", "shape", "place"}
COUNTED = {"animal", "artifact", "person", "plant", "body", "place", "object", "shape"}
VAGUE = {"food", "artifact", "substance", "person", "possession", "communication"}
"""Where an animal of the same name is rather meant."""
DETERMINERS = (
    "a ", "an ", "the ", "any ", "one ", "someone", "something", "anything", "some ", "all ", "either ", "each ",
    "that ", "what ", "how ",
)  # fmt: skip
COARSE = r"\b(sexual|genital|prostitut|coitus|vulva|offensive|slang|obscene|derogatory|ethnic slur)\b"
PEOPLES = "United|American|English|French|German|Greek|Roman|Italian|British|Japanese|Chinese|European|African|Asian"
SENSES = {"dolphin": 1}
"""Not the first sense, but this one."""
MOST_UNKNOWN = 9000


@dataclass(frozen=True, slots=True)
class Sense:
    category: int
    gloss: str
    words: list[str]


class WordNet:
    """What the package holds: senses by offset, offsets by word, and how often a first sense was counted in texts."""

    def __init__(self, folder: Path) -> None:
        self.senses: dict[str, dict[str, Sense]] = {}
        self.offsets: dict[str, dict[str, list[str]]] = {}
        for kind in ("noun", "verb", "adj"):
            self.senses[kind] = dict(_read_senses(folder / f"data.{kind}"))
            self.offsets[kind] = dict(_read_offsets(folder / f"index.{kind}"))
        self._counts = dict(_read_counts(folder / "cntlist.rev"))
        self.verb_forms = {line.split()[0] for line in (folder / "verb.exc").read_text().splitlines()}

    def count(self, word: str, kinds: str) -> int:
        """1 is a noun, 2 a verb, 3 and 5 are adjectives, 4 is an adverb."""
        return sum(self._counts.get((word, kind), 0) for kind in kinds)

    def count_most(self, word: str, kinds: str) -> int:
        return max(self._counts.get((word, kind), 0) for kind in kinds)


def _read_lines(file: Path) -> Iterator[str]:
    return (line for line in file.read_text(encoding="latin-1").splitlines() if not line.startswith("  "))


def _read_senses(file: Path) -> Iterator[tuple[str, Sense]]:
    for line in _read_lines(file):
        head, _, gloss = line.partition("|")
        fields = head.split()
        words = [fields[4 + 2 * i] for i in range(int(fields[3], 16))]
        yield fields[0], Sense(int(fields[1]), gloss.strip(), words)


def _read_offsets(file: Path) -> Iterator[tuple[str, list[str]]]:
    for line in _read_lines(file):
        fields = line.split()
        yield fields[0], fields[6 + int(fields[3]) :]


def _read_counts(file: Path) -> Iterator[tuple[tuple[str, str], int]]:
    for line in file.read_text().splitlines():
        key, sense, count = line.split()
        word, rest = key.split("%")
        if sense == "1":
            yield (word, rest[0]), int(count)


class Choices:
    """choices.txt, and how common words are by SCOWL's lists."""

    def __init__(self, scowl: Path) -> None:
        sections: dict[str, set[str]] = {}
        name = ""
        for line in (HERE / "choices.txt").read_text().splitlines():
            if line.startswith("["):
                name = line.strip("[]")
            elif not line.startswith("#"):
                sections.setdefault(name, set()).update(line.split())
        self.always, self.never, self.mass = (sections.pop(name) for name in ("always", "never", "mass"))
        self.prefer = {word: category for category, words in sections.items() for word in words}
        self.common, self.less, self.rare = (_read_scowl(scowl, *sizes) for sizes in ((10, 20), (35,), (40, 50)))


def _read_scowl(folder: Path, *sizes: int) -> set[str]:
    files = [folder / f"{kind}-words.{size}" for size in sizes for kind in ("english", "american")]
    words = {word for file in files if file.exists() for word in file.read_text(encoding="latin-1").split("\n")}
    return {word.strip() for word in words if re.fullmatch(r"[a-z]{2,14}", word.strip())}


def clean_gloss(gloss: str) -> str:
    """The first explanation without examples and brackets; empty where it is too short, too long or odd."""
    text = ""
    for part in re.split(r";(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", gloss):
        if not part.strip() or part.strip().startswith('"'):
            break
        part = re.sub(r"\s+", " ", re.sub(r"\([^)]*\)", "", part.strip())).strip(" ,:")
        text = part.split(" - ")[0].split(":")[0].strip()
        if text:
            break
    text = re.sub(r"\s+", " ", text).replace(" ,", ",").replace("`", "'").strip(" .;,")
    odd = not text or re.search(r"[^A-Za-z0-9 ,.'\-/]", text)
    return "" if odd or not 2 <= len(text.split()) <= 23 else text


def with_article(word: str) -> str:
    vowel = word[0].lower() in "aeiou" and not re.match(r"(uni|use|usu|eu|one|ura)", word)
    return ("an " if vowel else "a ") + word


def capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


def choose_sense(net: WordNet, choices: Choices, word: str) -> Sense:
    """The first sense, or the one that is rather meant."""
    senses = [net.senses["noun"][offset] for offset in net.offsets["noun"][word]]
    sense = senses[SENSES.get(word, 0)]
    if word in SENSES:
        return sense
    category, preferred = name_category(sense), word in choices.prefer
    if not preferred and category not in VAGUE:
        return sense
    wanted = choices.prefer.get(word, "animal")
    for other in senses if preferred else senses[:3]:
        if name_category(other) == wanted and (wanted != "animal" or category == "food" or preferred):
            return other
    return sense


def name_category(sense: Sense) -> str:
    return CATEGORIES[sense.category - 3]


def is_noun_first(net: WordNet, choices: Choices, word: str) -> bool:
    """Not rather another part of speech, or a form of another word."""
    if word in choices.always:
        return not is_plural(net, word)
    rather_other = net.count_most(word, "2345") > net.count(word, "1") and word not in choices.prefer
    return not rather_other and word not in net.verb_forms and not is_plural(net, word)


def is_plural(net: WordNet, word: str) -> bool:
    return word.endswith("s") and word[:-1] in net.offsets["noun"] and not word.endswith("ss")


def is_common_enough(net: WordNet, choices: Choices, word: str, category: str) -> bool:
    if word in choices.always:
        return True
    count, concrete = net.count(word, "1"), category in CONCRETE
    if word in choices.common and (concrete or count >= 2):
        return True
    if word in choices.less:
        return category in ("animal", "food", "plant", "body") or (concrete and count >= 1) or count >= 6
    return word in choices.rare and category == "animal"


def lower_first(text: str) -> str:
    if re.match(rf"[A-Z][a-z]+ (origin|language)|[A-Z]{{2}}|[A-Z][a-z]+n\b|I\b|{PEOPLES}", text):
        return text
    return text[0].lower() + text[1:]


def is_countable(choices: Choices, word: str, category: str, meaning: str) -> bool:
    if word in choices.mass:
        return False
    if category == "food" and re.search(
        r"\b(fruit|berry|nut|cookie|cake|sandwich|pie|roll|vegetable|candy)\b", meaning
    ):
        return True
    if category in COUNTED and not word.endswith(("ware", "ry", "ing")):
        return True
    return meaning.startswith(("a ", "an ", "one ", "someone", "any ")) and category not in ("food", "substance")


def is_of_many(word: str, body: str, choices: Choices) -> bool:
    """Explanations of many things at once, which `a WORD is` does not fit."""
    many = r"an? (rural|large|small|some|many|several|two|three|four)? ?[a-z]+s (of|in|for|that|and)\b"
    return re.match(many, body) is not None or (body.split()[-1].endswith("regions") and word not in choices.always)


def say_noun(choices: Choices, word: str, category: str, countable: bool, meaning: str) -> str:
    """What a noun means, as a sentence; empty where none fits."""
    if countable:
        body = meaning if meaning.startswith(DETERMINERS) else with_article(meaning)
        return "" if is_of_many(word, body, choices) else f"{capitalize(with_article(word))} is {body}."
    if meaning.startswith(DETERMINERS) and category not in ("time", "group"):
        return f"{capitalize(word)} is {meaning}."
    return f"{capitalize(word)}{' is' if category in ('food', 'substance', 'feeling') else ':'} {meaning}."


def describe_noun(net: WordNet, choices: Choices, word: str) -> dict[str, Any] | None:
    sense = choose_sense(net, choices, word)
    category = name_category(sense)
    if word not in sense.words or not is_noun_first(net, choices, word):  # the former: a name
        return None
    if not is_common_enough(net, choices, word, category) or (word.endswith("ing") and category == "act"):
        return None
    text = clean_gloss(sense.gloss)
    if not text or re.search(COARSE, sense.gloss) or (category == "person" and re.match(r"[A-Z]", text)):
        return None
    meaning = lower_first(text)
    if meaning.startswith(("plural", "of ", "in ")):
        return None
    countable = is_countable(choices, word, category, meaning)
    sentence = say_noun(choices, word, category, countable, meaning)
    if not sentence:
        return None
    level = 1 if word in choices.common else 2 if word in choices.less else 3
    return {"pos": "n", "cat": category, "countable": countable, "gloss": meaning, "sentence": sentence} | {
        "level": level,
        "count": net.count(word, "1"),
    }


def read_own_meanings(net: WordNet) -> Iterator[tuple[str, dict[str, Any]]]:
    """meanings.txt: what WordNet explains badly."""
    for line in (HERE / "meanings.txt").read_text().splitlines():
        if not line.startswith("#"):
            word, category, meaning = line.split(" ", 2)
            sentence = f"{capitalize(with_article(word))} is {meaning}."
            yield (
                word,
                {"pos": "n", "cat": category, "countable": True, "gloss": meaning, "sentence": sentence}
                | {
                    "level": 1,
                    "count": net.count(word, "1"),
                },
            )


def collect_nouns(net: WordNet, choices: Choices) -> dict[str, dict[str, Any]]:
    nouns: dict[str, dict[str, Any]] = {}
    for word in net.offsets["noun"]:
        if "_" not in word and "-" not in word and word not in choices.never and len(word) >= 3:
            noun = describe_noun(net, choices, word)
            if noun:
                nouns[word] = noun
    return nouns | dict(read_own_meanings(net))


def collect_others(net: WordNet, choices: Choices, kind: str) -> dict[str, dict[str, Any]]:
    """Verbs or adjectives."""
    is_verb = kind == "verb"
    found: dict[str, dict[str, Any]] = {}
    for word, offsets in net.offsets[kind].items():
        count = net.count(word, "2" if is_verb else "35")
        if word not in choices.common - choices.never or len(word) < (2 if is_verb else 3):
            continue
        gloss = net.senses[kind][offsets[0]].gloss
        text = clean_gloss(gloss)
        if count < (4 if is_verb else 6) or not text or re.search(r"\b(sexual|coitus)\b", gloss):
            continue
        if is_verb and word not in text.split():
            found[word] = {"gloss": text, "sentence": f"To {word} means to {text}.", "count": count}
        elif not is_verb:
            found[word] = {"gloss": text, "sentence": f"{capitalize(word)} means {text}.", "count": count}
    return found


def collect_unknown(net: WordNet, choices: Choices, nouns: dict[str, dict[str, Any]]) -> list[str]:
    taken = nouns.keys() | choices.common | choices.less | choices.never
    rare = sorted(
        word
        for word, offsets in net.offsets["noun"].items()
        if re.fullmatch(r"[a-z]{5,12}", word) and word not in taken and word in net.senses["noun"][offsets[0]].words
    )
    Random(3).shuffle(rare)
    return rare[:MOST_UNKNOWN]


def make_words(root: Path) -> dict[str, Any]:
    net, choices = WordNet(root / "usr/share/wordnet"), Choices(root / "usr/share/dict/scowl")
    nouns = collect_nouns(net, choices)
    return {
        "nouns": nouns,
        "verbs": collect_others(net, choices, "verb"),
        "adjectives": collect_others(net, choices, "adj"),
        "unknown": collect_unknown(net, choices, nouns),
    }


if __name__ == "__main__":
    made = make_words(Path(sys.argv[1]))
    (HERE / "words.json").write_text(json.dumps(made))
    print({name: len(words) for name, words in made.items()})
