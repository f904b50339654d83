"""Cluster files laid over deployments.yaml, and the forms they are printed in."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from serve_app.cli import main
from serve_app.render import merged

BELOW = """
http_options: {host: 127.0.0.1, port: 8000}
applications:
  - name: diffusion
    import_path: serve_app.app:build
    args: {models: {image: {max_queued: 3, limits: {n: 4}}}}
"""
ABOVE = """
http_options: {host: 0.0.0.0}
applications:
  - name: diffusion
    args: {models: {image: {limits: {n: 2}}}, profile: gpu}
"""


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name, text in (("below.yaml", BELOW), ("above.yaml", ABOVE)):
        (tmp_path / name).write_text(text)
    return [str(tmp_path / "below.yaml"), str(tmp_path / "above.yaml")]


def test_later_files_win_key_by_key_and_name_by_name(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", *files]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {
        "http_options": {"host": "0.0.0.0", "port": 8000},
        "applications": [
            {
                "name": "diffusion",
                "import_path": "serve_app.app:build",
                "args": {"models": {"image": {"max_queued": 3, "limits": {"n": 2}}}, "profile": "gpu"},
            }
        ],
    }


def test_lists_without_names_are_replaced() -> None:
    assert merged([{"a": [1, 2], "b": [{"name": "x", "n": 1}]}, {"a": [3], "b": [{"name": "y"}]}]) == {
        "a": [3],
        "b": [{"name": "x", "n": 1}, {"name": "y"}],
    }


def test_patch_and_rayservice_hold_the_same_config(files: list[str], tmp_path: Path) -> None:
    patch, service, whole = tmp_path / "patch.yaml", tmp_path / "service.yaml", tmp_path / "whole.yaml"
    service.write_text("kind: RayService\nmetadata: {name: mine}\nspec: {rayClusterConfig: {}}\n")
    assert main(["render", *files, "--patch", "mine", "--output", str(patch)]) == 0
    assert main(["render", *files, "--rayservice", str(service), "--output", str(whole)]) == 0
    of_patch, of_whole = yaml.safe_load(patch.read_text()), yaml.safe_load(whole.read_text())
    assert of_patch["metadata"] == of_whole["metadata"] == {"name": "mine"}
    assert of_whole["spec"].keys() == {"rayClusterConfig", "serveConfigV2"}
    config = yaml.safe_load(of_patch["spec"]["serveConfigV2"])
    assert config == yaml.safe_load(of_whole["spec"]["serveConfigV2"])
    assert config["applications"][0]["args"]["profile"] == "gpu"


def test_a_misspelt_key_is_not_rendered(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wrong.yaml").write_text("applications: [{name: diffusion, args: {imgae: {}}}]\n")
    assert main(["render", *files, str(tmp_path / "wrong.yaml")]) == 1
    streams = capsys.readouterr()
    assert "applications[0].args.imgae" in streams.err
    assert streams.out == ""
