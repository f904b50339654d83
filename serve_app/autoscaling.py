"""How many replicas each model should have: plain numbers in, a replica count out.

Requests differ a thousandfold in cost (a one-step thumbnail, a fifty-step video), so counting them says little. What
counts is the work that waits, in seconds of one replica, against the wait that was promised. `CostModel` learns what a
shape costs from finished generations; the ingress sums it over what it has under way.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from dataclasses import dataclass

from serve_app.tasks import ImageTask, Kind, TextTask, VideoTask

MEGA = 1e6
NEWEST = 0.2
"""Weight of the newest measurement in an average."""
SHAPES_KEPT = 256
"""Shapes remembered: callers choose them, so their number has to end. The least recently measured goes first."""
GUESSED: dict[Kind, float] = {"text": 0.005, "image": 0.05, "video": 0.02}
"""Engine seconds a unit until the first generation of a kind was measured; only the order of magnitude matters."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one request asks of an engine. Requests of one `shape` cost the same per unit.

    A unit is a token of text, a megapixel-step of an image, a megapixel-frame-step of a video.
    """

    kind: Kind
    shape: str
    units: float


def work_of(task: TextTask | ImageTask | VideoTask) -> Work:
    """The work in a task, at most: a text may end before its `max_tokens`."""
    if isinstance(task, TextTask):
        return Work("text", "tokens", float(task.max_tokens))
    pixels = task.width * task.height / MEGA
    size = f"{task.width}x{task.height}"
    if isinstance(task, ImageTask):
        return Work("image", f"{size}x{task.num_inference_steps}", pixels * task.num_inference_steps * task.n)
    shape = f"{size}x{task.num_frames}x{task.num_inference_steps}"
    return Work("video", shape, pixels * task.num_frames * task.num_inference_steps)


class CostModel:
    """Measured engine seconds per unit of work: of a shape where it was seen, else the mean of its kind, else a guess.

    An average that leans to the newest, so that it follows a new model or a faster engine.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, float] = {}
        self._shapes: OrderedDict[tuple[str, str], float] = OrderedDict()

    def observe(self, work: Work, seconds: float) -> None:
        """Takes in a finished generation; one without a time (a replayed result) counts for nothing."""
        if work.units <= 0 or not (0 < seconds < math.inf):
            return
        each = seconds / work.units
        self._kinds[work.kind] = _leaning(self._kinds.get(work.kind), each)
        key = (work.kind, work.shape)
        self._shapes[key] = _leaning(self._shapes.pop(key, None), each)
        if len(self._shapes) > SHAPES_KEPT:
            self._shapes.popitem(last=False)

    def seconds(self, work: Work) -> float:
        """The engine seconds that this work is expected to take."""
        each = self._shapes.get((work.kind, work.shape)) or self._kinds.get(work.kind) or GUESSED[work.kind]
        return each * work.units

    def measured(self, kind: Kind) -> bool:
        """Whether any generation of this kind has been seen."""
        return kind in self._kinds

    def dump(self) -> str:
        """As JSON, for `load`."""
        shapes = [[kind, shape, each] for (kind, shape), each in self._shapes.items()]
        return json.dumps({"kinds": self._kinds, "shapes": shapes})

    @classmethod
    def load(cls, dumped: str) -> CostModel:
        """What `dump` wrote; raises ValueError or KeyError on anything else."""
        raw = json.loads(dumped)
        model = cls()
        model._kinds = {str(kind): float(each) for kind, each in raw["kinds"].items()}
        model._shapes = OrderedDict(((str(kind), str(shape)), float(each)) for kind, shape, each in raw["shapes"])
        return model


def _leaning(before: float | None, newest: float) -> float:
    return newest if before is None else before + NEWEST * (newest - before)
