"""Progress as workers report it: never falling, and complete only at the end."""

from __future__ import annotations

from serve_app.engines.base import Step
from serve_app.engines.sglang.progress import Progress


def test_it_never_falls_nor_repeats() -> None:
    progress = Progress(10)
    assert progress.at(0.0) is None
    assert progress.at(0.35) == Step(3, 10)
    assert progress.at(0.2) is None
    assert progress.at(0.39) is None
    assert progress.at(0.5) == Step(5, 10)


def test_it_stays_below_the_end_however_long_it_takes() -> None:
    for total in (1, 4, 50, 200):
        progress = Progress(total)
        last = progress.at(9.0)
        assert last is None or last.step / last.total <= 0.99
        assert progress.finish() == Step(total, total)


def test_images_in_turn_share_one_count() -> None:
    progress = Progress(20, parts=2)
    assert progress.at(0.5) == Step(5, 20)
    progress.part_done()
    assert progress.at(0.0) == Step(10, 20)
    assert progress.at(0.5) == Step(15, 20)
