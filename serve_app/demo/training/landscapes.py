"""Lays out what is behind the things by lot: a colour, or a place with sky, ground, sun and stars. Numbers, no pixels.

A background is an array of BACKGROUND numbers, laid out by FIELDS; `render.py` paints it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serve_app.demo.training.things import COLORS, TIMELESS

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
_SKIES = {
    "day": ((70, 150, 230), (185, 225, 250), 1.0),
    "sunset": ((90, 50, 120), (255, 150, 60), 0.7),
    "night": ((8, 12, 40), (30, 45, 100), 0.4),
}
_WALLS = ((240, 225, 195), (252, 244, 222), (205, 185, 240), (170, 205, 225))
_DARKS = ((8, 8, 22), (15, 10, 45), (30, 14, 56))
Color = Sequence[float]


class Landscapes:
    """Lays out backgrounds, with numbers of `lot`."""

    def __init__(self, lot: random.Random) -> None:
        self.lot = lot

    def lay_out(self, behind: str, time: str) -> tuple[NDArray[np.float32], float | None]:
        """The numbers of a background, and the height of its horizon; a plain colour has none."""
        numbers = np.zeros(BACKGROUND, np.float32)
        numbers[FIELDS["near"].start] = numbers[FIELDS["far"].start] = ABSENT
        if behind in COLORS:
            numbers[FIELDS["top"]] = numbers[FIELDS["bottom"]] = self._vary(COLORS[behind], 7)
            if self.lot.random() < 0.2:
                numbers[FIELDS["vignette"]] = self.lot.uniform(0.1, 0.25)
            return numbers, None
        horizon = self.lot.uniform(0.52, 0.7)
        top, bottom, light = _SKIES[time]
        numbers[FIELDS["top"]], numbers[FIELDS["bottom"]] = self._vary(top, 10), self._vary(bottom, 10)
        self._lay_ground(numbers, behind, horizon, 1.0 if behind in TIMELESS else light)
        if behind not in TIMELESS:
            self._light(numbers, behind, time, horizon)
        return numbers, horizon

    def _vary(self, color: Color, by: float) -> list[float]:
        return [min(1.0, max(0.0, (value + self.lot.gauss(0, by)) / 255)) for value in color]

    def _lay_ground(self, numbers: NDArray[np.float32], behind: str, horizon: float, light: float) -> None:
        lot = self.lot

        def lay(name: str, y: float, wave: tuple[float, float, float], top: Color, bottom: Color) -> None:
            amplitude, frequency, jagged = wave
            shades = [self._vary([value * light for value in color], 7) for color in (top, bottom)]
            numbers[FIELDS[name]] = [y, amplitude, frequency, lot.uniform(0, 6.28), jagged, *shades[0], *shades[1]]

        def roll(most: float) -> tuple[float, float, float]:
            return lot.uniform(0.01, most), lot.uniform(0.5, 1.3), 0

        def put_up_walls() -> None:
            numbers[FIELDS["top"]] = numbers[FIELDS["bottom"]] = self._vary(lot.choice(_WALLS), 8)

        match behind:
            case "grass" | "garden":
                lay("near", horizon, roll(0.05), (120, 195, 80), (60, 140, 50))
            case "forest":
                lay("near", horizon, roll(0.03), (70, 130, 60), (40, 95, 45))
                jags = lot.uniform(0.04, 0.08), lot.uniform(4, 8), 1
                lay("far", horizon - 0.15, jags, (30, 90, 50), (30, 90, 50))
            case "sea":
                lay("near", horizon, (0.004, 3, 0), (45, 135, 205), (10, 65, 140))
                numbers[FIELDS["ripple"]] = lot.uniform(0.03, 0.1), lot.uniform(18, 34)
            case "beach":
                lay("near", horizon + 0.13, roll(0.03), (245, 222, 165), (225, 190, 125))
                lay("far", horizon - 0.05, (0.003, 2, 0), (50, 150, 210), (70, 190, 215))
            case "desert":
                lay("near", horizon, roll(0.06), (240, 200, 120), (215, 160, 80))
                lay("far", horizon - 0.05, roll(0.06), (225, 175, 100), (215, 160, 90))
            case "snow":
                lay("near", horizon, roll(0.04), (248, 250, 255), (215, 228, 242))
            case "mountains":
                lay("near", horizon + 0.08, roll(0.04), (110, 180, 90), (70, 140, 65))
                jags = lot.uniform(0.1, 0.2), lot.uniform(1.2, 2.6), 1
                lay("far", horizon - 0.12, jags, (235, 240, 248), (95, 110, 135))
            case "city":
                lay("near", horizon + 0.12, (0, 1, 0), (105, 107, 112), (75, 77, 82))
                lay("far", horizon + 0.06, (0, 1, 0), (195, 190, 180), (175, 170, 160))
            case "room":
                put_up_walls()
                lay("near", horizon + 0.1, (0, 1, 0), (190, 140, 95), (160, 112, 72))
                lay("far", horizon + 0.07, (0, 1, 0), (250, 248, 240), (240, 238, 230))
            case "table":
                put_up_walls()
                lay("near", horizon + 0.02, (0, 1, 0), (130, 75, 40), (95, 55, 28))
            case "space":
                dark = lot.choice(_DARKS)
                numbers[FIELDS["top"]], numbers[FIELDS["bottom"]] = self._vary(dark, 5), self._vary(dark, 5)
                numbers[FIELDS["stars"]] = lot.uniform(0.7, 1), lot.randrange(64)
            case "underwater":
                numbers[FIELDS["top"]] = self._vary((70, 185, 225), 9)
                numbers[FIELDS["bottom"]] = self._vary((8, 55, 120), 9)
                lay("near", lot.uniform(0.82, 0.9), (0.02, 1, 0), (225, 200, 140), (190, 160, 110))
            case _:
                pass

    def _light(self, numbers: NDArray[np.float32], behind: str, time: str, horizon: float) -> None:
        """Sun, moon and stars."""
        lot = self.lot
        if time == "sunset":
            place = [lot.uniform(0.25, 0.75), horizon - lot.uniform(-0.02, 0.1), lot.uniform(0.08, 0.15)]
            numbers[FIELDS["disc"]] = [*place, *self._vary((255, 225, 110), 8), 0.55]
            numbers[FIELDS["shine"]] = 1.0 if behind == "sea" else 0.0
        elif time == "night":
            numbers[FIELDS["stars"]] = lot.uniform(0.6, 1), lot.randrange(64)
            place = [lot.uniform(0.15, 0.85), lot.uniform(0.1, 0.25), lot.uniform(0.05, 0.09)]
            numbers[FIELDS["disc"]] = [*place, *self._vary((250, 246, 220), 6), 0.2]
        elif lot.random() < 0.3:
            place = [lot.uniform(0.1, 0.9), lot.uniform(0.1, 0.2), lot.uniform(0.06, 0.09)]
            numbers[FIELDS["disc"]] = [*place, *self._vary((255, 232, 90), 8), 0.25]
