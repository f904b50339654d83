"""Rounding of sizes and frame counts to what a model can make; the rest is cropped. Pure."""

from __future__ import annotations


def next_multiple(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple


def next_frames(frames: int, group: int) -> int:
    """The smallest group x k + 1 that is not below `frames`: video models pack frames after the first by `group`."""
    return next_multiple(frames - 1, group) + 1


def spread(count: int, total: int) -> tuple[int, ...]:
    """`count` of the steps 1 to `total`, evenly spread and none of them the last, where there are so many."""
    places = {max(1, round(total * (place + 1) / (count + 1))) for place in range(count)}
    return tuple(sorted(step for step in places if step <= total))
