"""The wheel, built and installed elsewhere: all that serving needs is in it, and nothing that only making it needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MEGABYTE = 1024 * 1024
NEEDED = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves a build folder, and what an older one held would go into the wheel."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in NEEDED:
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "serve_app", source / "serve_app", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(built),
        ".",
    ]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    [wheel] = built.glob("*.whl")
    return wheel


def test_what_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert any(name.endswith(".dist-info/licenses/NOTICE") for name in names)
    for folder in ("ingress/page", "demo/llada2-tiny", "demo/flux-tiny", "demo/wan-tiny"):
        shipped = {
            file.relative_to(ROOT).as_posix() for file in (ROOT / "serve_app" / folder).rglob("*") if file.is_file()
        }
        assert shipped <= set(names)
    assert not [name for name in names if name.startswith(("serve_app/demo/training", "tests", "benchmarks"))]
    assert wheel.stat().st_size <= 64 * MEGABYTE


def test_it_runs_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--target"]
    subprocess.run([*install, str(tmp_path), str(wheel)], check=True, capture_output=True, timeout=120)
    code = (
        "import pathlib, sys, serve_app\n"
        "from serve_app import demo\n"
        "assert pathlib.Path(serve_app.__file__).is_relative_to(sys.argv[1]), serve_app.__file__\n"
        "for name in demo.NAMES:\n"
        "    print(demo.find(name))\n"
    )
    # -I leaves out this folder and the environment's paths: only what was installed there comes first
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_relative_to(tmp_path) for line in done.stdout.splitlines())
