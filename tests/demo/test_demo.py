"""Making the demo checkpoints: once, whole, the same each time, small."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app import demo

MEGABYTE = 1024 * 1024


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_names() -> None:
    assert demo.NAMES == ("demo/llada2-tiny", "demo/flux-tiny", "demo/wan-tiny")
    assert demo.is_demo("demo/flux-tiny")
    assert not demo.is_demo("flux-tiny")


def test_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the demo models are demo/llada2-tiny"):
        demo.ensure("demo/sora", tmp_path)


@pytest.mark.parametrize("name", demo.TRAINED)
def test_a_trained_one_is_used_where_it_lies(name: str, tmp_path: Path) -> None:
    assert demo.ensure(name, tmp_path).is_relative_to(Path(demo.__file__).parent)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name in demo.NAMES if name not in demo.TRAINED])
def test_byte_identical_each_time(name: str, tmp_path: Path, demo_home: Path) -> None:
    folder, again = demo.ensure(name, demo_home), demo.ensure(name, tmp_path)
    assert again == tmp_path / "models" / name
    assert digests(folder) == digests(again)


def test_small(demo_home: Path) -> None:
    files = [file for name in demo.NAMES for file in demo.ensure(name, demo_home).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 30 * MEGABYTE


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    folder = demo.ensure("demo/wan-tiny", tmp_path)
    (folder / "mine").write_text("kept")
    assert demo.ensure("demo/wan-tiny", tmp_path) == folder
    assert (folder / "mine").exists()


def test_a_folder_that_was_not_made_here_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "demo" / "wan-tiny"
    folder.mkdir(parents=True)
    (folder / "mine").touch()
    with pytest.raises(FileExistsError, match="wan-tiny is no demo checkpoint that was made here"):
        demo.ensure("demo/wan-tiny", tmp_path)
    assert (folder / "mine").exists()


def test_an_older_recipe_is_made_anew(tmp_path: Path) -> None:
    folder = demo.ensure("demo/wan-tiny", tmp_path)
    (folder / "demo.json").write_text(json.dumps({"model": "demo/wan-tiny", "recipe": demo.RECIPE - 1}))
    demo.ensure("demo/wan-tiny", tmp_path)
    assert json.loads((folder / "demo.json").read_text())["recipe"] == demo.RECIPE


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    code = "import sys, pathlib, serve_app.demo as demo; demo.ensure('demo/wan-tiny', pathlib.Path(sys.argv[1]), True)"
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    shown = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], shown
    assert sum("demo/wan-tiny" in each for each in shown) == 1, "one made it, with a progress bar; one waited"
    models = tmp_path / "models" / "demo"
    assert sorted(each.name for each in models.iterdir()) == ["wan-tiny", "wan-tiny.lock"]
