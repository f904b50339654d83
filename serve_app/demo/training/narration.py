"""What captions say of a clip: the thing, what it does, where, when, and the camera."""

from __future__ import annotations

import random

from .stage import COLORS, GAITS, SCENES, TIMES, Thing

HORIZONTAL = {
    "left": ("to the left", "left", "to the left", "from right to left", "leftwards"),
    "right": ("to the right", "right", "to the right", "from left to right", "rightwards"),
}
CLOSER = ("coming towards the camera", "coming closer", "approaching", "moving towards us", "growing", "getting bigger")
FARTHER = ("moving away", "going away", "moving away from the camera", "shrinking", "getting smaller")
BOUNCING = ("bouncing", "bouncing up and down", "jumping up and down", "hopping")
STANDING = ("standing still", "not moving", "resting", "waiting")
PRESENT = {
    "walking": "walks",
    "running": "runs",
    "moving": "moves",
    "flying": "flies",
    "swimming": "swims",
    "driving": "drives",
    "sailing": "sails",
    "rolling": "rolls",
    "floating": "floats",
    "sliding": "slides",
    "rising": "rises",
    "falling": "falls",
    "sinking": "sinks",
    "bouncing": "bounces",
    "jumping": "jumps",
    "hopping": "hops",
    "exploring": "explores",
    "growing": "grows",
    "shrinking": "shrinks",
    "approaching": "approaches",
}
ADJECTIVES = (
    "cute",
    "curious",
    "happy",
    "little",
    "funny",
    "small",
    "big",
    "playful",
    "beautiful",
    "friendly",
    "young",
)
BEFORE = ("a video of", "a clip of", "an animation of", "a movie of", "a cartoon of", "a film of")
AFTER = ("high quality", "cartoon style", "4k", "animation", "cinematic", "emoji style", "smooth motion")


class Narrator:
    """Words by lot, from the clip's own source of chance."""

    def __init__(self, source: random.Random) -> None:
        self.random = source

    def tell_doing(self, thing: Thing, motion: str) -> str:
        """What it does, in words: "walking to the left", sometimes "walks to the left"."""
        words = self._say(thing, motion)
        first, _, rest = words.partition(" ")
        if self.random.random() < 0.15 and first in PRESENT:
            return f"{PRESENT[first]} {rest}".strip()
        return words

    def _say(self, thing: Thing, motion: str) -> str:
        pick = self.random
        sideways, up, down = GAITS[thing.gait]
        if motion in HORIZONTAL:
            return f"{pick.choice(sideways)} {pick.choice(HORIZONTAL[motion])}"
        if motion == "explore":
            return pick.choice(
                ("exploring", "moving", "playing", sideways[0], f"{sideways[0]} around", "looking around")
            )
        if motion.startswith("pan"):
            return pick.choice(("moving", sideways[0]))
        choices = {"up": up, "down": down, "towards": CLOSER, "away": FARTHER, "bounce": BOUNCING, "still": STANDING}
        return pick.choice(choices[motion])

    def tell_where(self, scene: str) -> str:
        pick = self.random
        if scene in COLORS:
            color = pick.choice(("grey", "gray")) if scene == "grey" else scene
            return pick.choice(
                (
                    f"on {article(color)} background",
                    f"on {article(color)} background",
                    f"on {color}",
                    f"in front of {article(color)} wall",
                )
            )
        return pick.choice(SCENES[scene].words)

    def _name(self, thing: Thing) -> str:
        noun = self.random.choice(thing.nouns) if self.random.random() < 0.4 else thing.nouns[0]
        if self.random.random() < 0.2:
            noun = f"{self.random.choice(ADJECTIVES)} {noun}"
        return noun if self.random.random() < 0.06 else article(noun)

    def tell(self, thing: Thing, other: Thing | None, scene: str, time: str, motion: str) -> str:
        pick = self.random
        name = self._name(thing)
        where = self.tell_where(scene)
        if other is not None:
            second = self._name(other)
            doing = pick.choice(
                (
                    "{} and {} meet",
                    "{} and {} moving towards each other",
                    "{} meets {}",
                    "{} and {} meeting",
                    "{} and {} coming together",
                )
            )
            text = f"{doing.format(name, second)} {where}"
        elif motion == "explore" and scene in SCENES and pick.random() < 0.35:
            text = f"{name} exploring {SCENES[scene].whole}"
        elif motion == "explore" and pick.random() < 0.3:
            text = f"{name} {where}"
        elif pick.random() < 0.15:
            text = f"{name} {where} {self.tell_doing(thing, motion)}"
        else:
            text = f"{name} {self.tell_doing(thing, motion)} {where}"
        if TIMES[time][0] and pick.random() < 0.92:
            text += " " + pick.choice(TIMES[time][0])
        if motion.startswith("pan"):
            side = motion.split()[1]
            text += pick.choice(
                (
                    f", the camera pans {side}",
                    f", camera panning to the {side}",
                    f", panning {side}",
                    f", the camera moves {side}",
                )
            )
        elif pick.random() < 0.1:
            text += pick.choice((", still camera", ", the camera is still", ", static camera"))
        if pick.random() < 0.1:
            text = f"{pick.choice(BEFORE)} {text}"
        if pick.random() < 0.1:
            text += f", {pick.choice(AFTER)}"
        return text + (pick.choice((".", "!")) if pick.random() < 0.08 else "")


def article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" and not noun.startswith(("uf", "uni")) else "a ") + noun
