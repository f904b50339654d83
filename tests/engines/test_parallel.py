"""Our words for parallelism, as SGLang's arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serve_app.engines.parallel import choose, sglang_arguments
from serve_app.model_settings import AnyModel, ImageSettings, TextSettings, VideoSettings

FLUX, QWEN, UNKNOWN = "black-forest-labs/FLUX.1-dev", "Qwen/Qwen-Image", "somebody/finetune"


def text(gpus: float, parallel: str = "auto") -> AnyModel:
    return TextSettings.model_validate({"gpus": gpus, "parallel": parallel})


def image(gpus: float, parallel: str = "auto", model: str = FLUX, guidance: float | None = None) -> AnyModel:
    defaults = {"guidance_scale": guidance}
    return ImageSettings.model_validate({"gpus": gpus, "parallel": parallel, "model": model, "defaults": defaults})


def video(gpus: float, parallel: str = "auto", guidance: float | None = 5.0) -> AnyModel:
    defaults = {"guidance_scale": guidance}
    return VideoSettings.model_validate({"gpus": gpus, "parallel": parallel, "model": UNKNOWN, "defaults": defaults})


def test_one_gpu_or_a_share_of_one() -> None:
    assert sglang_arguments(image(1)) == {"num_gpus": 1}
    assert sglang_arguments(video(0.3)) == {"num_gpus": 1}
    assert sglang_arguments(text(0.3)) == {"tp_size": 1}
    assert sglang_arguments(text(4.0)) == {"tp_size": 4}


def test_video_on_two_gpus() -> None:
    assert sglang_arguments(video(2, "tensor")) == {"num_gpus": 2, "tp_size": 2, "enable_cfg_parallel": False}
    assert sglang_arguments(video(2, "cfg")) == {"num_gpus": 2, "enable_cfg_parallel": True}
    # without a degree of its own SGLang picks how the parts are exchanged
    assert sglang_arguments(video(2, "sequence")) == {"num_gpus": 2, "enable_cfg_parallel": False}


@pytest.mark.parametrize(
    ("model", "chosen"),
    [
        (video(2), "cfg"),
        (video(8), "cfg"),
        (video(3), "sequence"),
        (video(2, guidance=None), "cfg"),
        (video(2, guidance=1.0), "sequence"),
        (image(2), "sequence"),
        (image(2, model=QWEN), "cfg"),
        (image(2, model=QWEN, guidance=1.0), "sequence"),
        (image(2, model=UNKNOWN, guidance=4.0), "sequence"),
        (text(2), "tensor"),
    ],
)
def test_auto(model: AnyModel, chosen: str) -> None:
    assert choose(model) == chosen


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (video(1, "tensor"), "2 GPUs or more"),
        (video(0.5, "cfg"), "2 GPUs or more"),
        (video(3, "cfg"), "an even count"),
        (video(2, "cfg", guidance=1.0), "guidance_scale above 1"),
        (image(2, "cfg"), "FLUX.1 runs once a step"),
        (text(2, "sequence"), "by tensor parallelism only"),
        (image(0), "needs a GPU"),
    ],
)
def test_impossible_combinations(model: AnyModel, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sglang_arguments(model)


@pytest.mark.parametrize(
    ("model", "chosen"),
    [
        (FLUX, "sequence"),
        ("black-forest-labs/FLUX.1-Kontext-dev", "sequence"),
        ("black-forest-labs/FLUX.2-dev", "sequence"),
        ("black-forest-labs/FLUX.2-klein-4B", "sequence"),
        ("black-forest-labs/FLUX.2-klein-base-4B", "cfg"),
        (QWEN, "cfg"),
        ("Qwen/Qwen-Image-Edit-2511", "cfg"),
        ("Tongyi-MAI/Z-Image", "cfg"),
        ("Tongyi-MAI/Z-Image-Turbo", "sequence"),
        (UNKNOWN, "sequence"),
    ],
)
def test_a_known_id_tells_whether_a_step_has_halves(model: str, chosen: str) -> None:
    assert choose(ImageSettings(gpus=2, model=model)) == chosen
    assert choose(ImageSettings(gpus=2, model="/models/mine", model_id=model)) == chosen


@pytest.mark.parametrize(
    ("index", "chosen"),
    [
        ({"_class_name": "FluxPipeline"}, "sequence"),
        ({"_class_name": "QwenImagePipeline"}, "cfg"),
        ({"_class_name": "Flux2KleinPipeline", "is_distilled": True}, "sequence"),
        ({"_class_name": "Flux2KleinPipeline", "is_distilled": False}, "cfg"),
        ({"_class_name": "NewPipeline"}, "sequence"),
    ],
)
def test_the_class_of_a_folder_tells_it_too(tmp_path: Path, index: dict[str, Any], chosen: str) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert choose(ImageSettings(gpus=2, model=str(tmp_path))) == chosen
