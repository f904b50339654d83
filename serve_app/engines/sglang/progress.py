"""The fractions that workers report, as steps done. Pure."""

from dataclasses import dataclass

from serve_app.engines.base import OnStep, Step

MOST = 0.99
"""Nothing but the end itself is the end."""


@dataclass(slots=True)
class Progress:
    """Tells of the steps done of `total`, over parts in turn: the count never falls and ends only with `finish`."""

    on_step: OnStep
    total: int
    parts: int = 1
    _part: int = 0
    _shown: int = 0

    def finish_part(self) -> None:
        self._part += 1

    def look(self, fraction: float) -> None:
        """Tells where `fraction` of the part under way moves the count on."""
        of_all = (self._part + min(max(fraction, 0.0), MOST)) / self.parts
        step = min(int(self.total * of_all), int(self.total * MOST))
        if step > self._shown:
            self._shown = step
            self.on_step(Step(step, self.total))

    def finish(self) -> None:
        self.on_step(Step(self.total, self.total))
