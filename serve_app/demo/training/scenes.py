"""Draws scenes by lot: which things where before what, and captions for them. Numbers and words only, no pixels."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serve_app.demo.training.landscapes import Landscapes
from serve_app.demo.training.things import (
    BEHIND,
    BY_LABEL,
    COLORS,
    DECORATIONS,
    EMPTY_PLACES,
    NUMBER,
    PLACES,
    STYLES,
    THINGS,
    TIMELESS,
    TIMES,
    Thing,
    is_held_out,
)
from serve_app.demo.training.wording import Subject, Wording, with_article

MOST_OBJECTS = 7
OBJECT = 6
"""sprite, x, y, size, flipped, tilt; -1 for no sprite."""


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
        """OBJECT of them."""
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


def pack_objects(placed: Sequence[Placed]) -> NDArray[np.float32]:
    """(MOST_OBJECTS, OBJECT): the last of them, if there are too many."""
    numbers = np.zeros((MOST_OBJECTS, OBJECT), np.float32)
    numbers[:, 0] = -1
    for row, thing in enumerate(placed[-MOST_OBJECTS:]):
        numbers[row] = thing.numbers()
    return numbers


class Maker:
    """Makes scenes, the same ones for the same seed. `ease` from 1 (single things, mostly on plain colours) to 0."""

    def __init__(self, seed: int, everything: bool = False) -> None:
        """With `everything`, also the things before what they are never shown before in training."""
        self.lot = random.Random(seed)
        self._landscapes, self._wording = Landscapes(self.lot), Wording(self.lot)
        self.ease = 0.0
        self._everything = everything

    def make(self) -> Scene:
        """The next scene."""
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
        subject = Subject(thing, style, second, count, size_word, side)
        scene.captions = tuple(self._wording.describe(subject, behind, scene.time) for _ in range(2))
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
        scene.captions = (self._wording.describe(Subject(thing, style), behind, time),)
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
        scene.captions = tuple(self._wording.describe_empty(place, time) for _ in range(2))
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
        """A scene without things in it, but with decorations."""
        numbers, horizon = self._landscapes.lay_out(behind, time)
        scene = Scene(numbers, behind, time, None if behind in ("sky", "space", "underwater") else horizon)
        if horizon is not None:
            self._decorate(scene, horizon)
        return scene

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
