"""Small checkpoints, each made once a run; nothing here is collected where sglang is not installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.gpu.app import App
from serve_app.engines.sglang.processes import descendants
from tests.gpu import on_cpu
from tests.s3_server import free_port

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


@pytest.fixture(scope="session")
def shims(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    with on_cpu.shims(tmp_path_factory.mktemp("shims")):
        yield


@contextmanager
def serving(folder: Path, models: dict[str, dict[str, Any] | None], *, wait_s: float) -> Generator[App]:
    """cluster/one-gpu.yaml with these keys of its models, ready and with quick jobs; it ends with the block."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster" / "one-gpu.yaml").read_text())
    config["http_options"]["port"] = free_port()
    args = config["applications"][0]["args"]
    args |= {"home": str(folder), "media": {"root": (folder / "media").as_uri()}}
    args["jobs"] = {"heartbeat_s": 1.0, "stale_s": 10.0, "sweep_s": 2.0}
    for kind, keys in models.items():
        args["models"][kind] = keys if keys is None else args["models"][kind] | keys
    begun, log = time.monotonic(), folder / "app.log"
    app = App(config, folder / "app", log)
    try:
        waiting = app.wait_ready(wait_s)
        print(f"ready after {time.monotonic() - begun:.1f} s")
        if waiting:
            print(log.read_text()[-8000:])
        assert not waiting
        yield app
    finally:
        app.stop()


def workers(pid: int | None = None) -> list[int]:
    """SGLang's processes below `pid` (this one); its workers name themselves."""
    found: list[int] = []
    for child in descendants(pid or os.getpid()):
        with suppress(OSError):
            line = Path(f"/proc/{child}/cmdline").read_bytes()
            if line.startswith((b"sgl_diffusion::", b"sglang::")):
                found.append(child)
    return found
