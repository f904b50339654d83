"""Which of SGLang's models a checkpoint is, and how long its prompts are. SGLang is played."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from serve_app import demo
from serve_app.engines.sglang.checkpoint import fit_prompts, known_as, own_name
from serve_app.model_settings import ImageSettings, VideoSettings
from tests.engines.sglang.played import install

KNOWN = ["black-forest-labs/FLUX.1-dev", "Qwen/Qwen-Image", "Wan-AI/Wan2.1-T2V-14B-Diffusers"]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = dict.fromkeys(KNOWN, "1")
    install(monkeypatch, {"sglang.multimodal_gen.registry": {"_MODEL_HF_PATH_TO_NAME": ids}})


def test_a_hub_id_is_told_by_its_own_name(registry: None) -> None:
    # SGLang compares it with names that have no owner, and takes no notice of any other
    model_id = known_as(VideoSettings(model="/models/mine", model_id="Wan-AI/Wan2.1-T2V-14B-Diffusers"))
    assert model_id is not None
    assert own_name(model_id) == "Wan2.1-T2V-14B-Diffusers"
    assert known_as(VideoSettings(model="/models/mine")) is None


def test_a_folder_of_any_name_is_known_by_what_lies_in_it(registry: None, tmp_path: Path) -> None:
    shutil.copy(demo.find("demo/flux-tiny") / "model_index.json", tmp_path)
    name = known_as(ImageSettings(model=str(tmp_path)))
    assert name == "FLUX.1-dev"
    assert own_name(name) == name


def test_a_member_of_a_family_that_sglang_has_no_name_for() -> None:
    assert known_as(ImageSettings(model="/models/mine", model_id="black-forest-labs/FLUX.1-schnell")) == "FLUX.1-dev"


def test_a_model_of_the_hub_is_left_to_sglang() -> None:
    assert known_as(ImageSettings(model="black-forest-labs/FLUX.1-Fill-dev")) is None


def test_a_wrong_hub_id_names_near_ones(registry: None) -> None:
    with pytest.raises(ValueError, match=r"model_id: SGLang knows no model 'Qwen-Picture'.*Qwen/Qwen-Image"):
        own_name("Qwen-Picture")


def test_prompts_are_as_long_as_the_tokenizers_allow(tmp_path: Path) -> None:
    def fitted(folder: Path) -> list[int | None]:
        arguments: list[dict[str, int]] = [{"max_length": 77}, {"max_length": 512}, {}]
        config = SimpleNamespace(text_encoder_extra_args=arguments)
        fit_prompts(config, folder)
        assert arguments[0] == {"max_length": 77}  # may be the operator's own
        return [given.get("max_length") for given in config.text_encoder_extra_args]

    assert fitted(demo.find("demo/flux-tiny")) == [24, 40, None]
    assert fitted(tmp_path) == [77, 512, None]
    boundless = {"model_max_length": 1000000000000000019884624838656}  # how transformers writes that there is no limit
    for name, written in {"tokenizer": boundless, "tokenizer_2": {}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer_config.json").write_text(json.dumps(written))
    assert fitted(tmp_path) == [77, 512, None]
