"""What every lane shares: where it runs, how it starts the application and the bare engine, where its rows go.

A lane has its GPUs, its port and its logs to itself, so that two lanes can run at once on two GPUs. Each row is written
when it is there: what comes later may fail.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.gpu.app import ROOT, App
from benchmarks.gpu.bare import Bare
from benchmarks.gpu.measure import Body, Row

FLUX, WAN, WAN_14B = (
    "black-forest-labs/FLUX.1-dev",
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "Wan-AI/Wan2.1-T2V-14B-Diffusers",
)
LLADA = "inclusionAI/LLaDA2.0-mini-preview"
CHECKPOINTS = {"flux": FLUX, "wan-1.3b": WAN, "wan-14b": WAN_14B, "llada": LLADA}
NAMES = {"text": LLADA, "image": FLUX, "video": WAN}
READY_S = 420.0


@dataclass
class Lane:
    """Where it runs. `gpus` is a list as of CUDA_VISIBLE_DEVICES."""

    name: str
    folder: Path
    state: Path
    results: Path
    gpus: str
    port: int
    tiny: bool = False
    rounds: int = 3
    lock: Path | None = None
    """Held while texts are measured, so that another lane on this GPU can run before or after: see `alone`."""
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.state / "home"

    def write(self, row: Row) -> None:
        line = row.as_json()
        self.rows.append(line)
        with self.results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        shown = {key: value for key, value in line.items() if key not in ("versions", "date", "card")}
        print(json.dumps(shown), flush=True)

    def config(self, models: dict[str, Body]) -> Body:
        """cluster/one-gpu.yaml with our folders in place of the hub's names, which stay what callers ask for."""
        config: Body = yaml.safe_load((ROOT / "cluster" / "one-gpu.yaml").read_text())
        config["http_options"]["port"] = self.port
        args = config["applications"][0]["args"]
        args["home"] = str(self.home)
        args["media"] = {"root": (self.state / "media").as_uri()}
        for kind, hub in NAMES.items():
            args["models"][kind] |= {"model": str(self.folder / hub), "served_name": hub}
        args["models"] = {kind: args["models"][kind] | model for kind, model in models.items()} | dict.fromkeys(
            set(NAMES) - set(models)
        )
        return config

    @contextmanager
    def alone(self) -> Generator[None]:
        """Waits until no other lane holds the lock, then holds it for the block."""
        if self.lock is None:
            yield
            return
        began = time.monotonic()
        with self.lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            print(f"alone after {time.monotonic() - began:.0f} s", flush=True)
            yield

    @contextmanager
    def app(self, name: str, models: dict[str, Body], *, row: Row | None = None) -> Generator[App]:
        """`serve run` until it is ready; `row` takes the seconds that took. It ends with the block."""
        began = time.monotonic()
        app = App(self.config(models), self.state / name, self.state / f"{name}.log", gpus=self.gpus or None)
        try:
            if waiting := app.wait_ready(READY_S):
                raise RuntimeError(f"{name}: not ready after {time.monotonic() - began:.0f} s: {waiting}")
            print(f"{name}: ready after {time.monotonic() - began:.1f} s", flush=True)
            if row is not None:
                row.ours.append(time.monotonic() - began)
                self.write(row)
            yield app
        finally:
            if left := app.stop():
                print(f"{name}: killed what did not end: {left}", flush=True)

    @contextmanager
    def bare(self, name: str, kind: str, model: Path, *more: str) -> Generator[Bare]:
        """The bare engine in its own process, which ends with the block."""
        socket = self.state / f"{name}.socket"
        socket.unlink(missing_ok=True)
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.bare", kind, str(model), str(socket)]
        command += ["--home", str(self.home), *more]
        env = os.environ | ({"CUDA_VISIBLE_DEVICES": self.gpus} if self.gpus else {})
        began = time.monotonic()
        with (self.state / f"{name}.log").open("w") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            while not socket.exists() and process.poll() is None and time.monotonic() - began < READY_S:
                time.sleep(0.2)
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode} while it loaded")
            print(f"{name}: loaded after {time.monotonic() - began:.1f} s", flush=True)
            bare = Bare(socket, 10)
            yield bare
            bare.close()
            process.wait(30)
        finally:
            if process.poll() is None:
                process.kill()

    def client(self, app: App) -> httpx.Client:
        return httpx.Client(base_url=app.base, timeout=900)


def memory(gpus: str) -> list[str]:
    """MiB that each process has on these GPUs, as nvidia-smi tells."""
    query = ["nvidia-smi", "--query-compute-apps=process_name,used_memory", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run([*query, *(["-i", gpus] if gpus else [])], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in found.stdout.splitlines() if line.strip()]
