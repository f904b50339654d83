"""A visit to a GPU machine, with trainings that end at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

RUN = Path(__file__).parents[3] / "serve_app" / "demo" / "training" / "visit" / "run.sh"
TRAINING = """
import pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
out.mkdir(parents=True)
(out / "sheet.jpg").write_text("a sheet")
whole = (pathlib.Path(__file__).parents[3] / "packed.tgz").read_bytes()
(out / "wan-tiny.tgz.0").write_bytes(whole[:100])
(out / "wan-tiny.tgz.1").write_bytes(whole[100:])
print("trained for", sys.argv[sys.argv.index("--minutes") + 1])
"""


def write_module(folder: Path, text: str) -> None:
    """A package in which serve_app.demo.training.video is `text`."""
    package = folder / "serve_app" / "demo" / "training"
    package.mkdir(parents=True)
    (package / "video.py").write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What prepare.sh would have made."""
    folder = tmp_path / "visit"
    write_module(folder, TRAINING)
    (folder / "data" / "video").mkdir(parents=True)
    shutil.copy(RUN, folder)
    with tarfile.open(folder / "packed.tgz", "w:gz") as packed:
        packed.add(folder / "run.sh", "wan-tiny/weights")
    return folder


def test_what_a_visit_brings_back(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "machine" / "site" / "diffusers").mkdir(parents=True)
    (tmp_path / "back").mkdir()
    elsewhere = tmp_path / "elsewhere"
    write_module(elsewhere, "raise SystemExit('not of the folder of run.sh')")
    told = {"VISIT_HOME": str(tmp_path / "machine"), "OUT": str(tmp_path / "back"), "ONLY": "video"}
    environment = {**os.environ, **told, "PYTHON": sys.executable}

    def run(*arguments: str) -> str:
        command = ["bash", os.path.relpath(folder / "run.sh", elsewhere), *arguments]
        done = subprocess.run(
            command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("start", "1")
    said = run("wait", "60")
    assert "ALL ENDED" in said
    assert "trained for" in said
    parts = sorted((tmp_path / "back" / "video").iterdir())
    assert [part.name for part in parts] == ["wan-tiny.tgz.0", "wan-tiny.tgz.1"]
    assert b"".join(part.read_bytes() for part in parts) == (folder / "packed.tgz").read_bytes()
    with tarfile.open(tmp_path / "back" / "misc.tgz") as misc:
        assert {"video.log", "all.log", "out/video/sheet.jpg"} <= set(misc.getnames())
