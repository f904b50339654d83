from __future__ import annotations

import pytest

from serve_app.engines.pictures import next_frames, next_multiple, spread


@pytest.mark.parametrize(("value", "multiple", "expected"), [(1, 16, 16), (16, 16, 16), (17, 16, 32), (250, 32, 256)])
def test_next_multiple(value: int, multiple: int, expected: int) -> None:
    assert next_multiple(value, multiple) == expected


@pytest.mark.parametrize(("frames", "expected"), [(1, 1), (2, 5), (5, 5), (16, 17), (17, 17), (18, 21), (49, 49)])
def test_next_frames(frames: int, expected: int) -> None:
    assert next_frames(frames, 4) == expected


def test_other_models_pack_frames_in_other_groups() -> None:
    assert [next_frames(frames, 8) for frames in (1, 2, 9, 10)] == [1, 9, 9, 17]


@pytest.mark.parametrize(
    ("count", "total", "expected"),
    [
        (0, 8, ()),
        (1, 8, (4,)),
        (3, 8, (2, 4, 6)),
        (3, 50, (12, 25, 38)),
        (3, 4, (1, 2, 3)),
        (3, 2, (1, 2)),
        (3, 1, (1,)),
    ],
)
def test_previews_are_spread_over_the_steps(count: int, total: int, expected: tuple[int, ...]) -> None:
    assert spread(count, total) == expected
