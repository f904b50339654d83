"""The cost model and the policy, on plain values."""

from __future__ import annotations

import math

import pytest

from serve_app.autoscaling import GUESSED, SHAPES_KEPT, CostModel, Work, work_of
from serve_app.tasks import ImageTask, TextTask, VideoTask


def image(width: int = 1000, height: int = 1000, steps: int = 10, n: int = 1) -> ImageTask:
    return ImageTask(
        id="i", model="m", prompt="p", width=width, height=height, num_inference_steps=steps, guidance_scale=1.0,
        seed=0, n=n,
    )  # fmt: skip


def test_units_of_work_by_kind() -> None:
    video = VideoTask(
        id="v", model="m", prompt="p", width=500, height=200, num_frames=17, fps=8, num_inference_steps=50,
        guidance_scale=5.0, seed=0,
    )  # fmt: skip
    assert work_of(TextTask(id="t", model="m", max_tokens=64)) == Work("text", "tokens", 64.0)
    assert work_of(image(n=3)) == Work("image", "1000x1000x10", 30.0)
    assert work_of(video) == Work("video", "500x200x17x50", 85.0)


def test_cost_falls_back_from_shape_to_kind_to_guess() -> None:
    costs = CostModel()
    small, large = work_of(image(steps=1)), work_of(image(width=2000, steps=50))
    assert costs.seconds(small) == GUESSED["image"]
    costs.observe(large, 200.0)
    assert costs.seconds(large) == 200.0
    assert costs.seconds(small) == 2.0
    costs.observe(small, 0.5)
    assert costs.seconds(small) == 0.5
    assert costs.seconds(large) == 200.0


def test_n_images_of_a_seen_shape_cost_n_times() -> None:
    costs = CostModel()
    costs.observe(work_of(image()), 3.0)
    assert costs.seconds(work_of(image(n=4))) == pytest.approx(12.0)


def test_average_leans_to_the_newest() -> None:
    costs = CostModel()
    work = work_of(image())
    costs.observe(work, 10.0)
    for _ in range(30):
        costs.observe(work, 1.0)
    assert costs.seconds(work) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_results_without_a_time_count_for_nothing(seconds: float) -> None:
    costs = CostModel()
    costs.observe(work_of(image()), seconds)
    assert not costs.measured("image")


def test_shapes_end() -> None:
    costs = CostModel()
    for index in range(3 * SHAPES_KEPT):
        costs.observe(Work("image", f"{index}", 1.0), float(index + 1))
    assert len(costs.dump()) < 100 * SHAPES_KEPT
    assert costs.seconds(Work("image", f"{3 * SHAPES_KEPT - 1}", 1.0)) == 3 * SHAPES_KEPT


def test_dump_and_load() -> None:
    costs = CostModel()
    costs.observe(work_of(image()), 3.0)
    again = CostModel.load(costs.dump())
    assert again.seconds(work_of(image())) == costs.seconds(work_of(image()))
    assert again.dump() == costs.dump()
