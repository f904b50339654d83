"""Our words for parallelism, as SGLang's arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serve_app.engines.parallel import Guidance, choose, guidance_of, sglang_arguments, whole_gpus
from serve_app.model_settings import ImageSettings

FLUX = Guidance(None, halves=False, family="FLUX.1")
QWEN = Guidance(None, halves=True, family="Qwen-Image")
NONE = Guidance(halves=False)
VIDEO = Guidance(5.0)


def test_one_gpu_or_a_share_of_one() -> None:
    assert sglang_arguments("image", 1, "auto", FLUX) == {"num_gpus": 1}
    assert sglang_arguments("video", 0.3, "auto", VIDEO) == {"num_gpus": 1}
    assert sglang_arguments("text", 0.3, "auto", NONE) == {"tp_size": 1}
    assert whole_gpus(4.0) == 4


def test_video_on_two_gpus() -> None:
    assert sglang_arguments("video", 2, "tensor", VIDEO) == {"num_gpus": 2, "tp_size": 2, "enable_cfg_parallel": False}
    assert sglang_arguments("video", 2, "cfg", VIDEO) == {"num_gpus": 2, "enable_cfg_parallel": True}
    assert sglang_arguments("video", 2, "sequence", VIDEO) == {
        "num_gpus": 2,
        "enable_cfg_parallel": False,
        "ulysses_degree": 2,
        "ring_degree": 1,
    }


@pytest.mark.parametrize(
    ("kind", "gpus", "guidance", "chosen"),
    [
        ("video", 2, VIDEO, "cfg"),
        ("video", 8, VIDEO, "cfg"),
        ("video", 3, VIDEO, "sequence"),
        ("video", 2, Guidance(1.0), "sequence"),
        ("image", 2, FLUX, "sequence"),
        ("image", 2, QWEN, "cfg"),
        ("image", 2, Guidance(1.0, halves=True), "sequence"),
        ("image", 2, Guidance(4.0), "sequence"),
        ("text", 2, NONE, "tensor"),
    ],
)
def test_auto(kind: str, gpus: int, guidance: Guidance, chosen: str) -> None:
    assert choose(kind, gpus, "auto", guidance) == chosen  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("kind", "gpus", "parallel", "guidance", "says"),
    [
        ("video", 1, "tensor", VIDEO, "2 GPUs or more"),
        ("video", 0.5, "cfg", VIDEO, "2 GPUs or more"),
        ("video", 3, "cfg", VIDEO, "an even count"),
        ("video", 2, "cfg", Guidance(1.0), "guidance_scale above 1"),
        ("image", 2, "cfg", FLUX, "FLUX.1 runs once a step"),
        ("text", 2, "sequence", NONE, "by tensor parallelism only"),
        ("image", 0, "auto", FLUX, "needs a GPU"),
    ],
)
def test_impossible_combinations(kind: str, gpus: float, parallel: str, guidance: Guidance, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sglang_arguments(kind, gpus, parallel, guidance)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("model", "halves"),
    [
        ("black-forest-labs/FLUX.1-dev", False),
        ("black-forest-labs/FLUX.1-Kontext-dev", False),
        ("black-forest-labs/FLUX.2-dev", False),
        ("black-forest-labs/FLUX.2-klein-4B", False),
        ("black-forest-labs/FLUX.2-klein-base-4B", True),
        ("Qwen/Qwen-Image", True),
        ("Qwen/Qwen-Image-Edit-2511", True),
        ("Tongyi-MAI/Z-Image", True),
        ("Tongyi-MAI/Z-Image-Turbo", False),
        ("somebody/finetune", None),
    ],
)
def test_a_known_id_tells_whether_a_step_has_halves(model: str, halves: bool | None) -> None:
    assert guidance_of(ImageSettings(model=model)).halves is halves
    assert guidance_of(ImageSettings(model="/models/mine", model_id=model)).halves is halves


@pytest.mark.parametrize(
    ("index", "halves"),
    [
        ({"_class_name": "FluxPipeline"}, False),
        ({"_class_name": "QwenImagePipeline"}, True),
        ({"_class_name": "Flux2KleinPipeline", "is_distilled": True}, False),
        ({"_class_name": "Flux2KleinPipeline", "is_distilled": False}, True),
        ({"_class_name": "NewPipeline"}, None),
    ],
)
def test_the_class_of_a_folder_tells_it_too(tmp_path: Path, index: dict[str, Any], halves: bool | None) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert guidance_of(ImageSettings(model=str(tmp_path))).halves is halves
