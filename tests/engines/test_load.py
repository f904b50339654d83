"""Which engine the settings get, and what is said where there is nothing to load."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serve_app import demo
from serve_app.engines.diffusers.loading import Source
from serve_app.engines.load import choose, load
from serve_app.model_settings import AnyModel, EngineName, ImageSettings, TextSettings, VideoSettings


@pytest.mark.parametrize(
    ("engine", "gpus", "expected"),
    [("auto", 0, "diffusers"), ("diffusers", 1, "diffusers"), ("sglang", 0, "sglang")],
)
def test_choice(engine: EngineName, gpus: float, expected: str) -> None:
    assert choose(TextSettings(engine=engine, gpus=gpus)) == expected


def test_choosing_imports_no_engine() -> None:
    code = (
        "import sys, serve_app.engines.load; print([m for m in ('torch', 'diffusers', 'sglang') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize("model", ["/no/such/folder", "./no-such-folder", "~/no/such/folder", "a/b/c"])
def test_a_missing_folder(model: str) -> None:
    for settings in of_each_kind(model):
        with pytest.raises(ValueError, match="does not exist"):
            load(settings)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    for settings in of_each_kind(str(tmp_path)):
        with pytest.raises(ValueError, match=r"is no (text|image|video) model"):
            load(settings)


def test_a_model_of_another_kind(tmp_path: Path) -> None:
    video = str(demo.find("demo/wan-tiny"))
    with pytest.raises(ValueError, match="is a WanPipeline, no image model"):
        load(ImageSettings(model=video))
    with pytest.raises(ValueError, match="is no text model"):
        load(TextSettings(model=video))


def test_a_broken_checkpoint(tmp_path: Path) -> None:
    index = {"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="could not be loaded as FluxPipeline"):
        load(ImageSettings(model=str(tmp_path)))


@pytest.mark.parametrize("args", [{"thread": 2}, {"threads": 0}, {"dtype": "int8"}])
def test_engine_args_are_strict(args: dict[str, Any], tmp_path: Path) -> None:
    model = str(demo.find("demo/flux-tiny"))
    with pytest.raises(ValueError, match=r"Allowed: threads, device, dtype$"):
        load(ImageSettings(model=model, engine_args=args))


def test_of_the_hub_only_what_the_settings_name() -> None:
    """No code of a checkpoint, and no revision but a named one."""
    plain = Source(TextSettings(model="a/b"))
    assert (plain.trust_remote_code, plain.hub_arguments) == (False, {})
    named = Source(ImageSettings(model="a/b", revision="v1", trust_remote_code=True))
    assert (named.trust_remote_code, named.hub_arguments) == (True, {"revision": "v1"})


def of_each_kind(model: str) -> list[AnyModel]:
    return [TextSettings(model=model), ImageSettings(model=model), VideoSettings(model=model)]
