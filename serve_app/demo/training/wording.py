"""Captions of scenes by lot: a thing or two in the words of people, where they are, when, and in which style."""

from __future__ import annotations

import random
from dataclasses import dataclass

from serve_app.demo.training.things import COLORS, EMPTY_PLACES, EXPLORED, PLACES, TIMELESS, TIMES, Thing

STYLE_WORDS = {"flat": ("flat", "flat style", "flat design"), "3d": ("3d", "3d style", "3d render")}
NUMBERS = {2: ("two", "2"), 3: ("three", "3")}
ADJECTIVES = [
    "cute",
    "curious",
    "happy",
    "little",
    "beautiful",
    "lovely",
    "funny",
    "friendly",
    "nice",
    "simple",
    "cheerful",
    "brave",
    "shiny",
    "old",
]
BEFORE = ("a picture of", "an image of", "a drawing of", "an illustration of", "a photo of", "a painting of", "draw")
AFTER = ("digital art", "highly detailed", "illustration", "cartoon", "emoji", "high quality", "colorful", "cinematic")
_IRREGULAR = {
    "mouse": "mice",
    "sheep": "sheep",
    "fish": "fish",
    "deer": "deer",
    "wolf": "wolves",
    "scissors": "scissors",
    "grapes": "grapes",
    "cherries": "cherries",
    "fries": "fries",
    "glasses": "glasses",
    "goose": "geese",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "volcano": "volcanoes",
    "lightning": "lightning bolts",
    "pancakes": "pancakes",
    "leaf": "leaves",
    "skull": "skulls",
    "bus": "buses",
}


@dataclass(frozen=True)
class Subject:
    """What a caption names: `count` of a thing, or it and a second one; a word for its size; the side where it is."""

    thing: Thing
    style: str
    second: Thing | None = None
    count: int = 1
    size_word: str = ""
    side: str = ""


def with_article(noun: str) -> str:
    """With "a" or "an" where it needs one."""
    plural = noun.split()[-1] in ("grapes", "cherries", "fries", "glasses", "scissors", "pancakes")
    if plural or noun in (
        "lightning",
        "popcorn",
        "corn",
        "broccoli",
        "bread",
        "cheese",
        "milk",
        "wine",
        "beer",
        "coffee",
        "fire",
    ):
        return noun
    return ("an " if noun[0] in "aeiou" and not noun.startswith(("uni", "ufo")) else "a ") + noun


def pluralize(noun: str) -> str:
    """More than one of it."""
    head, joint, tail = noun.partition(" of ")
    if not joint:
        head, joint, tail = noun.partition(" with ")
    *before, last = head.split()
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last.endswith(("s", "x", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return " ".join([*before, last]) + joint + tail


class Wording:
    """Says what a scene shows, with numbers of `lot`."""

    def __init__(self, lot: random.Random) -> None:
        self.lot = lot

    def describe(self, subject: Subject, behind: str, time: str) -> str:
        """A caption of things before a colour or place, at a time of the day."""
        lot = self.lot
        named = self._name(subject) + (f" on the {subject.side}" if subject.side else "")
        text = f"{named} {self._say_behind(subject.thing, behind)}".strip()
        timed = behind not in COLORS and behind not in TIMELESS
        if timed and (time != "day" or lot.random() < 0.08):
            text += " " + lot.choice(TIMES[time])
        if subject.style in STYLE_WORDS:
            text += ", " + lot.choice(STYLE_WORDS[subject.style])
        if lot.random() < 0.1:
            text = f"{lot.choice(BEFORE)} {text}"
        if lot.random() < 0.08:
            text += ", " + ", ".join(lot.sample(AFTER, lot.randint(1, 2)))
        if lot.random() < 0.02:
            text = self._insert_junk(text)
        return text + lot.choice((".", "!")) if lot.random() < 0.08 else text

    def _name(self, subject: Subject) -> str:
        lot, thing, size_word = self.lot, subject.thing, subject.size_word
        noun = thing.nouns[0] if lot.random() < 0.6 else lot.choice(thing.nouns)
        if lot.random() < 0.1:
            noun = f"{lot.choice(ADJECTIVES)} {noun}"
        if subject.second is not None:
            first, other = with_article(noun), with_article(lot.choice(subject.second.nouns))
            forms = (f"{first} and {other}", f"{first} next to {other}", f"{first} to the left of {other}")
            return lot.choice((*forms, f"{other} to the right of {first}", f"{first} and {other}"))
        if subject.count > 1:
            return f"{lot.choice(NUMBERS[subject.count])} {pluralize(noun)}"
        if size_word:
            noun = f"{lot.choice(('small', 'tiny') if size_word == 'small' else ('large', 'big', 'huge'))} {noun}"
        return with_article(noun) if lot.random() < 0.9 else noun

    def _say_behind(self, thing: Thing, behind: str) -> str:
        lot = self.lot
        if behind in COLORS:
            if behind == "white" and lot.random() < 0.6:
                return ""
            article = with_article(behind)
            return lot.choice(
                (f"on {article} background", f"on {article} background", f"on {behind}", f"with {article} background")
            )
        words = lot.choice(PLACES[behind])
        if thing.lives and lot.random() < 0.25:
            if behind in EXPLORED and lot.random() < 0.4:
                return f"exploring {EXPLORED[behind]}"
            return f"{lot.choice(('sitting', 'standing', 'walking', 'playing', 'resting'))} {words}"
        return f"flying {words}" if behind == "sky" and lot.random() < 0.25 else words

    def describe_empty(self, place: str, time: str) -> str:
        """A caption of a place without things."""
        lot = self.lot
        what = lot.choice(EMPTY_PLACES[place])
        if time == "sunset":
            return lot.choice(
                (f"a sunset over {what}", f"sunset over {what}", f"{what} at sunset", f"A sunset over {what}")
            )
        if time == "night":
            return lot.choice((f"{what} at night", f"{what} under the stars", f"the moon over {what}"))
        return what if lot.random() < 0.8 else f"{lot.choice(BEFORE)} {what}"

    def _insert_junk(self, text: str) -> str:
        """A word that nobody knows, and that says nothing."""
        junk = "".join(self.lot.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(self.lot.randint(3, 8)))
        words = text.split(" ")
        words.insert(self.lot.randint(0, len(words)), junk)
        return " ".join(words)
