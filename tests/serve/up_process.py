"""A deployments file served by the command line, in a process and a Ray of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.interruptible import interruptible
from tests.serve.conftest import free_port, wait_ready

BIN = Path(sys.executable).parent


class UpProcess:
    """Runs `diffusion-serve up` on one file, again and again; `more` are further keys of the application."""

    def __init__(self, folder: Path, args: dict[str, Any], **more: Any) -> None:
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.config = folder / "deployments.yaml"
        application = {"name": "diffusion", "route_prefix": "/", "import_path": "serve_app.app:build", "args": args}
        application |= more
        http = {"host": "127.0.0.1", "port": self.port}
        self.config.write_text(yaml.safe_dump({"http_options": http, "applications": [application]}))
        self._log = folder / "log"

    @contextmanager
    def running(self) -> Generator[subprocess.Popen[bytes]]:
        """Ready at its beginning; killed at the end of the block, if it still runs."""
        with self.started() as process:
            wait_ready(self.base_url, 240)
            yield process

    @contextmanager
    def started(self) -> Generator[subprocess.Popen[bytes]]:
        """As `running`, without waiting for it to be ready."""
        # a short path: Ray's Unix sockets lie below it, and theirs are limited to 107 bytes
        temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                interruptible(str(BIN / "diffusion-serve"), "up", "--config", str(self.config)),
                stdout=log,
                stderr=log,
                env={**os.environ, "RAY_TMPDIR": temporary, "RAY_ADDRESS": "local"},
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            shutil.rmtree(temporary, ignore_errors=True)

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(self.base_url + path, json=body, timeout=240)

    def submit(self, body: dict[str, Any]) -> str:
        answer = httpx.post(f"{self.base_url}/v1/videos", json=body, headers={"Prefer": "respond-async"}, timeout=60)
        return answer.raise_for_status().json()["id"]

    def job(self, job_id: str) -> dict[str, Any]:
        return httpx.get(f"{self.base_url}/v1/videos/{job_id}", timeout=60).raise_for_status().json()

    def tail(self) -> str:
        return self.log()[-4000:]

    def log(self) -> str:
        return self._log.read_text(errors="replace")
