"""Progress as workers report it: never falling, and complete only at the end."""

from __future__ import annotations

import pytest

from serve_app.engines.base import Step
from serve_app.engines.sglang.progress import Progress


def steps_of(total: int, *fractions: float, parts: int = 1) -> list[int]:
    """The steps that are told of `fractions`, each row of `parts` with the same ones."""
    told: list[Step] = []
    progress = Progress(told.append, total, parts)
    for _ in range(parts):
        for fraction in fractions:
            progress.look(fraction)
        progress.finish_part()
    progress.finish()
    assert {step.total for step in told} == {total}
    return [step.step for step in told]


def test_it_never_falls_nor_repeats() -> None:
    assert steps_of(10, 0.0, 0.35, 0.2, 0.39, 0.5) == [3, 5, 10]


@pytest.mark.parametrize("total", [1, 4, 50, 200])
def test_it_stays_below_the_end_however_long_it_takes(total: int) -> None:
    *before, end = steps_of(total, 9.0)
    assert end == total
    assert all(step / total <= 0.99 for step in before)


def test_images_in_turn_share_one_count() -> None:
    assert steps_of(20, 0.0, 0.5, parts=2) == [5, 10, 15, 20]
