"""Random clips with captions: which thing moves how, over which scene, under which camera. Plain Python, no torch.

A clip is a `Clip` of numbers that `filming.py` renders; the caption says what the numbers do. Positions and sizes are
shares of the picture, x to the right and y downwards; a scene is two pictures wide, and the camera shows one of them.
"""

from __future__ import annotations

import math
import random
import zlib
from dataclasses import dataclass, field

from .narration import Narrator, article
from .stage import COLORS, DISCS, FLOATING, SCENES, THINGS, TIMES, Color, Scene, Thing

FRAMES = 17
HELD_OUT = 20
"""One of so many combinations of thing, motion and scene is never trained: the judge asks for those."""
MOTIONS = (
    "left",
    "right",
    "up",
    "down",
    "towards",
    "away",
    "bounce",
    "meet",
    "still",
    "explore",
    "pan left",
    "pan right",
)
_WEIGHTS = (15, 15, 9, 9, 9, 9, 8, 8, 4, 8, 3, 3)


@dataclass(slots=True)
class Actor:
    """A sprite's path: for each frame its centre (x, y), size and angle."""

    label: str
    flip: bool
    path: list[tuple[float, float, float, float]]


@dataclass(slots=True)
class Clip:
    caption: str
    sky: tuple[Color, Color]
    ground: tuple[Color, Color]
    horizon: float
    hills: Color | None
    hill_shape: tuple[float, float, float, bool]
    disc: tuple[float, float, float, Color] | None
    decor: list[tuple[str, float, float, float]]
    camera: list[float]
    actors: list[Actor] = field(default_factory=list[Actor])


def held_out(thing: str, motion: str, scene: str) -> bool:
    return zlib.crc32(f"{thing}/{motion}/{scene}".encode()) % HELD_OUT == 0


class ClipMaker:
    """Draws random clips, the same ones for the same seed."""

    def __init__(self, seed: int, frames: int = FRAMES) -> None:
        self.random = random.Random(seed)
        self.narrator = Narrator(self.random)
        self.frames = frames

    def clip(self) -> Clip:
        while True:
            thing, scene, time, motion = self._choose()
            if not held_out(thing.nouns[0], motion, scene):
                return self.film(thing, scene, time, motion)

    def film(self, thing: Thing, scene: str, time: str, motion: str) -> Clip:
        """A clip of just this; `scene` is a name of SCENES or of COLORS."""
        clip = self._stage(scene, time)
        other = (
            self.random.choice([another for another in THINGS if another is not thing]) if motion == "meet" else None
        )
        self._act(clip, thing, other, scene, motion)
        clip.caption = self.narrator.tell(thing, other, scene, time, motion)
        return clip

    def held_out_prompts(self, motions: tuple[str, ...], count: int) -> list[tuple[str, Thing, str, str]]:
        """(caption, thing, motion, scene) of combinations that no training clip has, in plain words."""
        found: list[tuple[str, Thing, str, str]] = []
        while len(found) < count:
            thing, scene, _, _ = self._choose()
            motion = motions[len(found) % len(motions)]
            if held_out(thing.nouns[0], motion, scene) and all(old[1:] != (thing, motion, scene) for old in found):
                doing = self.narrator.tell_doing(thing, motion)
                found.append(
                    (f"{article(thing.nouns[0])} {doing} {self.narrator.tell_where(scene)}", thing, motion, scene)
                )
        return found

    def _choose(self) -> tuple[Thing, str, str, str]:
        pick = self.random
        thing = pick.choice(THINGS)
        time = "day"
        if pick.random() < 0.35:
            scene = pick.choice(tuple(COLORS))
        else:
            scene = pick.choice(thing.places if pick.random() < 0.65 else tuple(SCENES))
            if SCENES[scene].sky is None:
                time = pick.choices(tuple(TIMES), (0.74, 0.13, 0.13))[0]
        return thing, scene, time, pick.choices(MOTIONS, _WEIGHTS)[0]

    # --- the numbers

    def _near(self, color: Color, by: float, times: float = 1.0) -> Color:
        drawn = [min(255, max(0, round(value * times + self.random.gauss(0, by)))) for value in color]
        return drawn[0], drawn[1], drawn[2]

    def _stage(self, name: str, time: str) -> Clip:
        pick = self.random
        if name in COLORS:
            color = self._near(COLORS[name], 5)
            return Clip("", (color, color), (color, color), 2.0, None, (0, 1, 0, False), None, [], [0.0] * self.frames)
        scene = SCENES[name]
        _, sky, light = TIMES[time]
        sky = scene.sky or sky
        horizon = pick.uniform(*scene.horizon)
        hills = self._near(scene.hills, 6, light) if scene.hills else None
        shape = (
            pick.uniform(0.03, 0.07) * (2 if scene.spikes else 1),
            float(pick.randint(2, 5) * (2 if scene.spikes else 1)),
            pick.uniform(0, 6.28),
            scene.spikes,
        )
        disc = None
        if name not in FLOATING and scene.sky is None and (time != "day" or pick.random() < 0.3):
            radius = pick.uniform(0.06, 0.1)
            height = horizon - pick.uniform(0.0, 0.1) if time == "sunset" else pick.uniform(0.12, 0.25)
            disc = (pick.uniform(0.2, 1.8), height, radius, self._near(DISCS[time], 5))
        clip = Clip(
            "",
            (self._near(sky[0], 6), self._near(sky[1], 6)),
            (self._near(scene.ground[0], 6, light), self._near(scene.ground[1], 6, light)),
            horizon,
            hills,
            shape,
            disc,
            [],
            [0.0] * self.frames,
        )
        self._decorate(clip, name, scene)
        return clip

    def _decorate(self, clip: Clip, name: str, scene: Scene) -> None:
        pick = self.random
        if not scene.decor:
            return
        count = pick.randint(6, 8) if name in ("garden", "forest", "space") else pick.randint(3, 5)
        for place in range(count):
            size = pick.uniform(*scene.decor_size)
            if name == "garden":
                y = pick.uniform(clip.horizon + 0.03, 0.93)
            elif name in FLOATING:
                y = pick.uniform(0.08, 0.92)
            else:
                y = clip.horizon + pick.uniform(0.0, 0.06) - size / 2
            clip.decor.append((pick.choice(scene.decor), 2 * (place + pick.uniform(0.2, 0.8)) / count, y, size))

    def _act(self, clip: Clip, thing: Thing, other: Thing | None, scene: str, motion: str) -> None:
        pick = self.random
        size = pick.uniform(0.4, 0.55)
        if motion == "meet":
            size = pick.uniform(0.3, 0.38)
        standing = (
            clip.horizon < 1
            and thing.gait in ("walk", "drive", "roll")
            and motion not in ("up", "down", "towards", "away")
        )
        low = pick.uniform(0.82, 0.93) - size / 2 if standing else pick.uniform(0.42, 0.6)
        start = pick.uniform(0.0, 1.0)
        clip.camera = [start] * self.frames
        steps = [frame / max(1, self.frames - 1) for frame in range(self.frames)]
        reach = pick.uniform(0.2, 0.28)
        hop = 0.02 if thing.gait == "walk" and motion in ("left", "right", "explore") else 0.0
        hops = pick.choice((2, 3))

        def path(
            x: float, dx: float, dy: float = 0.0, grown: float = 1.0, leap: float = 0.0, leaps: float = 2.0
        ) -> list[tuple[float, float, float, float]]:
            """From x - dx to x + dx, the same for y; the size by a factor; bounces of a height."""
            return [
                (
                    x + dx * (2 * s - 1),
                    low + dy * (2 * s - 1) - leap * abs(math.sin(math.pi * leaps * s)),
                    size * grown ** (s - 0.5),
                    0.0,
                )
                for s in steps
            ]

        centre = 0.5 + pick.gauss(0, 0.03)
        flip = thing.sided and (
            motion in ("right", "pan right") or (motion not in ("left", "pan left") and pick.random() < 0.3)
        )
        if motion in ("left", "right"):
            sign = 1 if motion == "right" else -1
            moves = path(centre, sign * reach, leap=hop, leaps=hops)
        elif motion in ("up", "down"):
            low = 0.5 + pick.gauss(0, 0.02)
            moves = path(centre, 0.0, (1 if motion == "down" else -1) * reach)
        elif motion in ("towards", "away"):
            size = 0.4
            low = 0.55 if clip.horizon < 1 else 0.5
            growth = pick.uniform(2.4, 3.2)
            moves = path(centre, 0.0, grown=growth if motion == "towards" else 1 / growth)
        elif motion == "bounce":
            low = max(low, 0.55)
            moves = path(centre, 0.0, leap=pick.uniform(0.2, 0.3), leaps=hops)
        elif motion == "meet":
            near = size * 0.52
            far = pick.uniform(0.3, 0.34)
            moves = path(0.5 - (far + near) / 2, (far - near) / 2)
            flip = thing.sided
        elif motion == "explore":
            sign = pick.choice((1, -1))
            flip = thing.sided and sign > 0
            moves = path(centre, sign * pick.uniform(0.1, 0.16), leap=0.03, leaps=3)
        else:
            moves = path(centre, 0.0, leap=hop if motion.startswith("pan") else 0.0, leaps=3)
        if motion.startswith("pan"):
            shift = pick.uniform(0.4, 0.7)
            start = pick.uniform(0.0, 1.0 - shift)
            way = [start + shift * s for s in steps]
            clip.camera = way if motion == "pan right" else way[::-1]
        clip.actors.append(Actor(thing.label, flip, moves))
        if other is not None:
            clip.actors.append(Actor(other.label, False, [(1 - x, y, size, 0.0) for x, y, size, _ in moves]))
