"""Draws random scenes by lot: which things where before what, and captions for them. Numbers and words only, no pixels.

A scene's background is an array of BACKGROUND numbers, laid out by FIELDS; `render.py` paints it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_app.demo.training.things import (
    BY_LABEL,
    COLORS,
    DECORATIONS,
    EMPTY_PLACES,
    EXPLORED,
    NUMBER,
    PLACES,
    STYLES,
    THINGS,
    TIMELESS,
    TIMES,
    Thing,
    is_held_out,
)

MOST_OBJECTS = 7
OBJECT = 6
"""sprite, x, y, size, flipped, tilt; -1 for no sprite."""
_SIZES = {
    "top": 3,
    "bottom": 3,
    "near": 11,
    "far": 11,
    "disc": 7,
    "stars": 2,
    "ripple": 2,
    "shine": 1,
    "vignette": 1,
}
_ENDS = np.cumsum(list(_SIZES.values())).tolist()
FIELDS = {name: slice(end - size, end) for (name, size), end in zip(_SIZES.items(), _ENDS, strict=True)}
"""near, far: height, amplitude, frequency, phase, jagged, colour above, colour below; disc: x, y, radius, colour, glow;
stars: strength, which; ripple: strength, frequency."""
BACKGROUND = _ENDS[-1]
ABSENT = 3.0
"""The height of a hill that lies below the picture."""
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
}
_IRREGULAR |= {"grapes": "grapes", "cherries": "cherries", "fries": "fries", "glasses": "glasses", "goose": "geese"}
_IRREGULAR |= {"potato": "potatoes", "tomato": "tomatoes", "volcano": "volcanoes", "lightning": "lightning bolts"}
_IRREGULAR |= {"pancakes": "pancakes", "leaf": "leaves", "skull": "skulls", "bus": "buses"}
_SKIES = {
    "day": ((70, 150, 230), (185, 225, 250), 1.0),
    "sunset": ((90, 50, 120), (255, 150, 60), 0.7),
    "night": ((8, 12, 40), (30, 45, 100), 0.4),
}


@dataclass
class Placed:
    """A thing in a picture: centre and size in sides of the picture, tilt in radians."""

    thing: Thing
    style: str
    x: float
    y: float
    size: float
    flipped: bool = False
    tilt: float = 0.0

    def numbers(self) -> tuple[float, ...]:
        sprite = NUMBER[self.thing.label] * len(STYLES) + STYLES.index(self.style)
        return (sprite, self.x, self.y, self.size, float(self.flipped), self.tilt)


@dataclass
class Scene:
    """`behind` is a colour or a place, `time` one of TIMES; `things` are named in the caption, decorations are not."""

    background: NDArray[np.float32]
    behind: str
    time: str
    horizon: float | None
    things: list[Placed] = field(default_factory=list[Placed])
    decorations: list[Placed] = field(default_factory=list[Placed])
    captions: tuple[str, ...] = ()

    def objects(self) -> NDArray[np.float32]:
        """(MOST_OBJECTS, OBJECT), from the back to the front."""
        return pack_objects([*self.decorations, *self.things])

    def labels(self) -> tuple[int, int, int, int]:
        """Numbers of the thing (-1: none, or several kinds), of what is behind, of the time; how many things."""
        kinds = {placed.thing.label for placed in self.things}
        thing = NUMBER[self.things[0].thing.label] if len(kinds) == 1 else -1
        return thing, BEHIND.index(self.behind), tuple(TIMES).index(self.time), len(self.things)


BEHIND = (*COLORS, *PLACES)


def pack_objects(placed: Sequence[Placed]) -> NDArray[np.float32]:
    numbers = np.zeros((MOST_OBJECTS, OBJECT), np.float32)
    numbers[:, 0] = -1
    for row, one in enumerate(placed[-MOST_OBJECTS:]):
        numbers[row] = one.numbers()
    return numbers


def with_article(noun: str) -> str:
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


class Maker:
    """Makes scenes, the same ones for the same seed. `ease` from 1 (single things, mostly on plain colours) to 0."""

    def __init__(self, seed: int, everything: bool = False) -> None:
        """With `everything`, also the things before what they are never shown before in training."""
        self.lot = random.Random(seed)
        self.ease = 0.0
        self._everything = everything

    def make(self) -> Scene:
        lot = self.lot
        plain = lot.random() < 0.4 + 0.35 * self.ease
        if not plain and lot.random() < 0.1:
            return self._make_empty()
        thing = lot.choice(THINGS)
        behind = self._choose_behind(thing, plain)
        count = lot.choices((1, 2, 3), (0.74 + 0.2 * self.ease, 0.18, 0.08))[0]
        second = self._choose_second(behind) if count == 2 and lot.random() < 0.6 else None
        scene = self.make_background(behind, "day" if plain else self._choose_time(behind))
        style = lot.choices(STYLES, (0.66, 0.17, 0.17))[0]
        size_word, side = self._place(scene, thing, second, count, style)
        scene.captions = tuple(self._describe(scene, thing, second, count, size_word, side) for _ in range(2))
        return scene

    def crowd(self) -> Scene:
        """Many things anywhere, for the autoencoder."""
        lot = self.lot
        behind = lot.choice(BEHIND)
        scene = self.make_background(behind, self._choose_time(behind) if behind in PLACES else "day")
        for _ in range(lot.randint(2, MOST_OBJECTS - 1)):
            size = lot.choice((lot.uniform(0.15, 0.4), lot.uniform(0.4, 0.9)))
            placed = Placed(lot.choice(THINGS), lot.choice(STYLES), lot.random(), lot.random(), size)
            placed.flipped, placed.tilt = lot.random() < 0.5, lot.gauss(0, 0.2)
            scene.things.append(placed)
        scene.things.sort(key=lambda placed: -placed.size)
        return scene

    def show(self, thing: Thing, behind: str, time: str = "day", style: str = "noto", size: float = 0.65) -> Scene:
        """One thing in the middle, for the judge's prompts and for clips."""
        scene = self.make_background(behind, time)
        self._stand(scene, Placed(thing, style, 0.5 + self.lot.gauss(0, 0.04), 0.5 + self.lot.gauss(0, 0.04), size))
        scene.captions = (self._describe(scene, thing, None, 1, "", ""),)
        return scene

    def prompt(self, thing: Thing, behind: str, time: str = "day") -> str:
        """The plainest caption."""
        words = f"on {with_article(behind)} background" if behind in COLORS else PLACES[behind][0]
        return f"{with_article(thing.nouns[0])} {words}" + (f" {TIMES[time][0]}" if time != "day" else "")

    # --- what ---------------------------------------------------------------------------------------------------------

    def _choose_behind(self, thing: Thing, plain: bool) -> str:
        while True:
            if plain:
                behind = "white" if self.lot.random() < 0.08 else self.lot.choice(tuple(COLORS))
            else:
                behind = self.lot.choice(thing.places if thing.places and self.lot.random() < 0.5 else tuple(PLACES))
            if self._allows(thing, behind):
                return behind

    def _allows(self, thing: Thing, behind: str) -> bool:
        return self._everything or not is_held_out(thing, behind)

    def _choose_second(self, behind: str) -> Thing:
        while True:
            thing = self.lot.choice(THINGS)
            if self._allows(thing, behind):
                return thing

    def _choose_time(self, behind: str) -> str:
        return "day" if behind in TIMELESS else self.lot.choices(tuple(TIMES), (0.6, 0.2, 0.2))[0]

    def _make_empty(self) -> Scene:
        place = self.lot.choice(("sea", "sea", *EMPTY_PLACES))
        time = "day" if place in TIMELESS else self.lot.choices(tuple(TIMES), (0.4, 0.35, 0.25))[0]
        scene = self.make_background(place, time)
        scene.captions = tuple(self._describe_empty(place, time) for _ in range(2))
        return scene

    # --- where --------------------------------------------------------------------------------------------------------

    def _place(self, scene: Scene, thing: Thing, second: Thing | None, count: int, style: str) -> tuple[str, str]:
        lot = self.lot
        size_word, side, flipped = "", "", lot.random() < 0.25 and thing.kind in ("animal", "vehicle")
        if count == 1:
            size = lot.uniform(0.5, 0.78)
            if lot.random() < 0.2 - 0.15 * self.ease:
                size_word = lot.choice(("small", "large"))
                size = lot.uniform(0.24, 0.36) if size_word == "small" else lot.uniform(0.82, 0.95)
            x, y = 0.5 + lot.gauss(0, 0.05), 0.5 + lot.gauss(0, 0.04)
            if size_word != "large" and lot.random() < 0.16 - 0.1 * self.ease:
                side = lot.choice(("left", "right"))
                size = min(size, lot.uniform(0.36, 0.48))
                x = 0.26 if side == "left" else 0.74
            spots = [(x, y, size)]
        else:
            size = lot.uniform(0.36, 0.48) if count == 2 else lot.uniform(0.27, 0.32)
            spots = [
                ((spot + 0.5) / count + lot.gauss(0, 0.012), 0.5 + lot.gauss(0, 0.03), size) for spot in range(count)
            ]
        for spot, (x, y, size) in enumerate(spots):
            who = second if second and spot == 1 else thing
            self._stand(scene, Placed(who, style, x, y, size, flipped and who is thing))
        return size_word, side

    def _stand(self, scene: Scene, placed: Placed) -> None:
        """Puts a thing on the ground where there is one, and inside of the picture."""
        floats = scene.behind in ("sky", "space", "underwater") or (
            placed.thing.kind == "sky" and self.lot.random() < 0.7
        )
        if scene.horizon is not None and not floats:
            foot = min(0.97, max(scene.horizon + 0.14, self.lot.uniform(0.8, 0.94)))
            placed.y = foot - placed.size / 2
        edge = placed.size * 0.48
        placed.x = min(1 - edge, max(edge, placed.x))
        placed.y = min(1 - edge, max(edge, placed.y))
        scene.things.append(placed)

    # --- backgrounds --------------------------------------------------------------------------------------------------

    def make_background(self, behind: str, time: str) -> Scene:
        numbers = np.zeros(BACKGROUND, np.float32)
        numbers[FIELDS["near"].start] = numbers[FIELDS["far"].start] = ABSENT
        if behind in COLORS:
            numbers[FIELDS["top"]] = numbers[FIELDS["bottom"]] = self._vary(COLORS[behind], 7)
            if self.lot.random() < 0.2:
                numbers[FIELDS["vignette"]] = self.lot.uniform(0.1, 0.25)
            return Scene(numbers, behind, time, None)
        horizon = self.lot.uniform(0.52, 0.7)
        scene = Scene(numbers, behind, time, horizon)
        top, bottom, _ = _SKIES[time]
        numbers[FIELDS["top"]], numbers[FIELDS["bottom"]] = self._vary(top, 10), self._vary(bottom, 10)
        self._lay_ground(scene, horizon)
        if behind not in TIMELESS:
            self._light(scene, horizon)
        if behind in ("sky", "space", "underwater"):
            scene.horizon = None
        self._decorate(scene, horizon)
        return scene

    def _vary(self, color: Sequence[float], by: float) -> list[float]:
        return [min(1.0, max(0.0, (value + self.lot.gauss(0, by)) / 255)) for value in color]

    def _lay_ground(self, scene: Scene, horizon: float) -> None:
        lot, numbers = self.lot, scene.background
        dim = 1.0 if scene.behind in TIMELESS else _SKIES[scene.time][2]

        def lay(name: str, y: float, wave: tuple[float, float, float], top: Any, bottom: Any) -> None:
            amplitude, frequency, jagged = wave
            shades = [self._vary([value * dim for value in color], 7) for color in (top, bottom)]
            numbers[FIELDS[name]] = [y, amplitude, frequency, lot.uniform(0, 6.28), jagged, *shades[0], *shades[1]]

        def rolling(most: float) -> tuple[float, float, float]:
            return lot.uniform(0.01, most), lot.uniform(0.5, 1.3), 0

        def walls() -> None:
            shade = self._vary(lot.choice(((240, 225, 195), (252, 244, 222), (205, 185, 240), (170, 205, 225))), 8)
            numbers[FIELDS["top"]] = numbers[FIELDS["bottom"]] = shade

        match scene.behind:
            case "grass" | "garden":
                lay("near", horizon, rolling(0.05), (120, 195, 80), (60, 140, 50))
            case "forest":
                lay("near", horizon, rolling(0.03), (70, 130, 60), (40, 95, 45))
                jags = lot.uniform(0.04, 0.08), lot.uniform(4, 8), 1
                lay("far", horizon - 0.15, jags, (30, 90, 50), (30, 90, 50))
            case "sea":
                lay("near", horizon, (0.004, 3, 0), (45, 135, 205), (10, 65, 140))
                numbers[FIELDS["ripple"]] = lot.uniform(0.03, 0.1), lot.uniform(18, 34)
            case "beach":
                lay("near", horizon + 0.13, rolling(0.03), (245, 222, 165), (225, 190, 125))
                lay("far", horizon - 0.05, (0.003, 2, 0), (50, 150, 210), (70, 190, 215))
            case "desert":
                lay("near", horizon, rolling(0.06), (240, 200, 120), (215, 160, 80))
                lay("far", horizon - 0.05, rolling(0.06), (225, 175, 100), (215, 160, 90))
            case "snow":
                lay("near", horizon, rolling(0.04), (248, 250, 255), (215, 228, 242))
            case "mountains":
                lay("near", horizon + 0.08, rolling(0.04), (110, 180, 90), (70, 140, 65))
                jags = lot.uniform(0.1, 0.2), lot.uniform(1.2, 2.6), 1
                lay("far", horizon - 0.12, jags, (235, 240, 248), (95, 110, 135))
            case "city":
                lay("near", horizon + 0.12, (0, 1, 0), (105, 107, 112), (75, 77, 82))
                lay("far", horizon + 0.06, (0, 1, 0), (195, 190, 180), (175, 170, 160))
            case "room":
                walls()
                lay("near", horizon + 0.1, (0, 1, 0), (190, 140, 95), (160, 112, 72))
                lay("far", horizon + 0.07, (0, 1, 0), (250, 248, 240), (240, 238, 230))
            case "table":
                walls()
                lay("near", horizon + 0.02, (0, 1, 0), (130, 75, 40), (95, 55, 28))
            case "space":
                dark = lot.choice(((8, 8, 22), (15, 10, 45), (30, 14, 56)))
                numbers[FIELDS["top"]], numbers[FIELDS["bottom"]] = self._vary(dark, 5), self._vary(dark, 5)
                numbers[FIELDS["stars"]] = lot.uniform(0.7, 1), lot.randrange(64)
            case "underwater":
                numbers[FIELDS["top"]] = self._vary((70, 185, 225), 9)
                numbers[FIELDS["bottom"]] = self._vary((8, 55, 120), 9)
                lay("near", lot.uniform(0.82, 0.9), (0.02, 1, 0), (225, 200, 140), (190, 160, 110))
            case _:
                pass

    def _light(self, scene: Scene, horizon: float) -> None:
        """Sun, moon and stars."""
        lot, numbers = self.lot, scene.background
        if scene.time == "sunset":
            place = [lot.uniform(0.25, 0.75), horizon - lot.uniform(-0.02, 0.1), lot.uniform(0.08, 0.15)]
            numbers[FIELDS["disc"]] = [*place, *self._vary((255, 225, 110), 8), 0.55]
            numbers[FIELDS["shine"]] = 1.0 if scene.behind == "sea" else 0.0
        elif scene.time == "night":
            numbers[FIELDS["stars"]] = lot.uniform(0.6, 1), lot.randrange(64)
            place = [lot.uniform(0.15, 0.85), lot.uniform(0.1, 0.25), lot.uniform(0.05, 0.09)]
            numbers[FIELDS["disc"]] = [*place, *self._vary((250, 246, 220), 6), 0.2]
        elif lot.random() < 0.3:
            place = [lot.uniform(0.1, 0.9), lot.uniform(0.1, 0.2), lot.uniform(0.06, 0.09)]
            numbers[FIELDS["disc"]] = [*place, *self._vary((255, 232, 90), 8), 0.25]

    def _decorate(self, scene: Scene, horizon: float) -> None:
        lot, behind = self.lot, scene.behind
        if behind not in DECORATIONS or (behind not in ("garden", "forest", "sky", "city") and lot.random() < 0.5):
            return
        count = lot.randint(2, 4) if behind in ("garden", "forest") else lot.randint(1, 2)
        for spot in range(count):
            x = (spot + lot.uniform(0.15, 0.85)) / count
            if behind == "garden":
                size = lot.uniform(0.14, 0.24)
                y = lot.uniform(horizon + 0.02, 0.92)
            elif behind == "city":
                size = lot.uniform(0.28, 0.42)
                y = horizon + 0.1 - size / 2
            elif behind in ("sky", "underwater", "space"):
                size = lot.uniform(0.12, 0.26)
                y = lot.uniform(0.1, 0.85)
            else:
                size = lot.uniform(0.25, 0.4) if behind == "forest" else lot.uniform(0.18, 0.3)
                y = horizon + lot.uniform(0.0, 0.12) - size / 2
            thing = BY_LABEL[lot.choice(DECORATIONS[behind])]
            scene.decorations.append(Placed(thing, "noto", x, y, size, lot.random() < 0.5))

    # --- captions -----------------------------------------------------------------------------------------------------

    def _describe(self, scene: Scene, thing: Thing, second: Thing | None, count: int, size_word: str, side: str) -> str:
        lot = self.lot
        style = scene.things[0].style
        subject = self._name(thing, second, count, size_word) + (f" on the {side}" if side else "")
        text = f"{subject} {self._say_behind(scene, thing)}".strip()
        if scene.behind not in COLORS and scene.behind not in TIMELESS:
            if scene.time != "day" or lot.random() < 0.08:
                text += " " + lot.choice(TIMES[scene.time])
        if style in STYLE_WORDS:
            words = lot.choice(STYLE_WORDS[style])
            text += ", " + words
        if lot.random() < 0.1:
            text = f"{lot.choice(BEFORE)} {text}"
        if lot.random() < 0.08:
            text += ", " + ", ".join(lot.sample(AFTER, lot.randint(1, 2)))
        if lot.random() < 0.02:
            text = self._insert_junk(text)
        return text + lot.choice((".", "!")) if lot.random() < 0.08 else text

    def _name(self, thing: Thing, second: Thing | None, count: int, size_word: str) -> str:
        lot = self.lot
        noun = thing.nouns[0] if lot.random() < 0.6 else lot.choice(thing.nouns)
        if lot.random() < 0.1:
            noun = f"{lot.choice(ADJECTIVES)} {noun}"
        if second is not None:
            first, other = with_article(noun), with_article(lot.choice(second.nouns))
            forms = (f"{first} and {other}", f"{first} next to {other}", f"{first} to the left of {other}")
            return lot.choice((*forms, f"{other} to the right of {first}", f"{first} and {other}"))
        if count > 1:
            return f"{lot.choice(NUMBERS[count])} {pluralize(noun)}"
        if size_word:
            noun = f"{lot.choice(('small', 'tiny') if size_word == 'small' else ('large', 'big', 'huge'))} {noun}"
        return with_article(noun) if lot.random() < 0.9 else noun

    def _say_behind(self, scene: Scene, thing: Thing) -> str:
        lot, behind = self.lot, scene.behind
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

    def _describe_empty(self, place: str, time: str) -> str:
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
