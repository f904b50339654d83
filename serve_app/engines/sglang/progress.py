"""The fractions that workers report, as steps done. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from serve_app.engines.base import Step

MOST = 0.99
"""Nothing but the end itself is the end."""


@dataclass(slots=True)
class Progress:
    """The steps done of `total`, over parts that run one after another: it never falls and ends only with `finish`."""

    total: int
    parts: int = 1
    _part: int = 0
    _shown: int = 0

    def part_done(self) -> None:
        self._part += 1

    def at(self, fraction: float) -> Step | None:
        """A Step when `fraction` of the part under way moves the count on."""
        of_all = (self._part + min(max(fraction, 0.0), MOST)) / self.parts
        step = min(int(self.total * of_all), int(self.total * MOST))
        if step <= self._shown:
            return None
        self._shown = step
        return Step(step, self.total)

    def finish(self) -> Step:
        self._shown = self.total
        return Step(self.total, self.total)
