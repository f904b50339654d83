"""Our words for parallelism, as SGLang's arguments."""

from __future__ import annotations

import pytest

from serve_app.engines.parallel import choose, sglang_arguments, whole_gpus


def test_one_gpu_or_a_share_of_one() -> None:
    assert sglang_arguments("image", 1, "auto", 3.5) == {"num_gpus": 1}
    assert sglang_arguments("video", 0.3, "auto", 5.0) == {"num_gpus": 1}
    assert sglang_arguments("text", 0.3, "auto", 1.0) == {"tp_size": 1}
    assert whole_gpus(4.0) == 4


def test_video_on_two_gpus() -> None:
    assert sglang_arguments("video", 2, "tensor", 5.0) == {"num_gpus": 2, "tp_size": 2, "enable_cfg_parallel": False}
    assert sglang_arguments("video", 2, "cfg", 5.0) == {"num_gpus": 2, "enable_cfg_parallel": True}
    assert sglang_arguments("video", 2, "sequence", 5.0) == {
        "num_gpus": 2,
        "enable_cfg_parallel": False,
        "ulysses_degree": 2,
        "ring_degree": 1,
    }


@pytest.mark.parametrize(
    ("kind", "gpus", "guidance", "chosen"),
    [
        ("video", 2, 5.0, "cfg"),
        ("video", 8, 5.0, "cfg"),
        ("video", 3, 5.0, "sequence"),
        ("video", 2, 1.0, "sequence"),
        ("image", 2, 3.5, "sequence"),
        ("text", 2, 1.0, "tensor"),
    ],
)
def test_auto(kind: str, gpus: int, guidance: float, chosen: str) -> None:
    assert choose(kind, gpus, "auto", guidance) == chosen  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("kind", "gpus", "parallel", "guidance", "says"),
    [
        ("video", 1, "tensor", 5.0, "2 GPUs or more"),
        ("video", 0.5, "cfg", 5.0, "2 GPUs or more"),
        ("video", 3, "cfg", 5.0, "an even count"),
        ("video", 2, "cfg", 1.0, "guidance_scale above 1"),
        ("image", 2, "cfg", 3.5, "FLUX"),
        ("text", 2, "sequence", 1.0, "by tensor parallelism only"),
        ("image", 0, "auto", 3.5, "needs a GPU"),
    ],
)
def test_impossible_combinations(kind: str, gpus: float, parallel: str, guidance: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sglang_arguments(kind, gpus, parallel, guidance)  # pyright: ignore[reportArgumentType]
