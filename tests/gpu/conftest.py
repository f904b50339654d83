"""Small checkpoints, each made once a run; nothing here is collected where sglang is not installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from serve_app.engines.sglang.processes import descendants

ROOT = Path(__file__).parents[2]
collect_ignore_glob = [] if importlib.util.find_spec("sglang") else ["test_*.py"]
NAMES = {
    "flux": "black-forest-labs/FLUX.1-dev",
    "flux2-klein": "black-forest-labs/FLUX.2-klein-4B",
    "wan-1.3b": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "wan-ti2v": "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    "llada": "inclusionAI/LLaDA2.0-mini-preview",
    "sdar": "JetLM/SDAR-1.7B-Chat",
    "diffusion-gemma": "google/diffusiongemma-26B-A4B-it",
}


class Checkpoints(dict[str, Path]):
    """The folder of each small checkpoint, named as on the hub; it is made when a test first asks for it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, kind: str) -> Path:
        self[kind] = self._folder / NAMES[kind]
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.checkpoints", kind, str(self[kind]), "--tiny"]
        subprocess.run(command, cwd=ROOT, check=True)
        return self[kind]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


def workers(pid: int | None = None) -> list[int]:
    """SGLang's processes below `pid` (this one); its workers name themselves."""
    found: list[int] = []
    for child in descendants(pid or os.getpid()):
        with suppress(OSError):
            line = Path(f"/proc/{child}/cmdline").read_bytes()
            if line.startswith((b"sgl_diffusion::", b"sglang::")):
                found.append(child)
    return found
