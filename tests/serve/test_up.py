"""`diffusion-serve up` as a process of its own: what a signal to it does to requests and to jobs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.serve.app_process import wait_until
from tests.serve.conftest import free_port, wait_ready

pytestmark = pytest.mark.timeout(600)

BIN = Path(sys.executable).parent
JOB = {"model": "demo/wan-tiny", "prompt": "a river", "size": "64x64", "nvext": {"num_frames": 9}}
LONG_JOB = {**JOB, "size": "256x256", "nvext": {"num_frames": 49, "num_inference_steps": 100}}
IMAGE = {"model": "demo/flux-tiny", "prompt": "a fox", "size": "256x256", "nvext": {"num_inference_steps": 16}}
# a shell that has the tests in its background ignores SIGINT, and would hand that on
INTERRUPTIBLE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Server:
    """Runs a command of the environment on one deployments file, in a Ray of its own."""

    def __init__(self, folder: Path, args: dict[str, Any]) -> None:
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.config = folder / "deployments.yaml"
        application = {"name": "diffusion", "route_prefix": "/", "import_path": "serve_app.app:build", "args": args}
        http = {"host": "127.0.0.1", "port": self.port}
        self.config.write_text(yaml.safe_dump({"http_options": http, "applications": [application]}))
        self._log = folder / "log"

    @contextmanager
    def running(self, *command: str) -> Generator[subprocess.Popen[bytes]]:
        """Ready at its beginning; killed at the end of the block, if it still runs."""
        # a short path: Ray's Unix sockets lie below it, and theirs are limited to 107 bytes
        temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", INTERRUPTIBLE, *command, str(self.config)],
                stdout=log,
                stderr=log,
                env={**os.environ, "RAY_TMPDIR": temporary, "RAY_ADDRESS": "local"},
                start_new_session=True,
            )
        try:
            wait_ready(self.base_url, 240)
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
        return self._log.read_text(errors="replace")[-4000:]


@pytest.fixture
def args(demo_home: Path, tmp_path: Path) -> dict[str, Any]:
    media = tmp_path / "media"
    media.mkdir()
    return {
        "profile": "demo",
        "home": str(demo_home),
        "media": {"root": media.as_uri()},
        "text": {"enabled": False},
        "image": {"warm_up_sizes": [[64, 64]]},
        "video": {"warm_up_sizes": [[64, 64, 5]]},
        "jobs": {"sweep_s": 1},
    }


def test_a_stop_finishes_requests_and_hands_jobs_back(args: dict[str, Any], tmp_path: Path) -> None:
    server = Server(tmp_path, args)
    up = str(BIN / "diffusion-serve"), "up", "--config"
    with server.running(*up) as process, ThreadPoolExecutor(8) as pool:
        # more than the one replica takes at a time, so that some wait at the ingress
        asked = [pool.submit(server.post, "/v1/images/generations", IMAGE) for _ in range(5)]
        long, *short = [server.submit(LONG_JOB), server.submit(JOB), server.submit(JOB)]
        wait_until(lambda: server.job(long)["status"] == "in_progress", 60, "the job's start")
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{server.base_url}/ready", timeout=30).status_code == 503, 30, "/ready's no")
        assert server.post("/v1/images/generations", IMAGE).status_code == 503
        # on a slow machine one may come too late; it hears so
        answers = [each.result() for each in asked]
        assert {answer.status_code for answer in answers if "is draining" not in answer.text} == {200}
        assert process.wait(60) == 0, server.tail()
    with server.running(*up) as process:
        assert server.job(long)["status"] in ("queued", "in_progress")
        httpx.post(f"{server.base_url}/v1/videos/{long}/cancel").raise_for_status()
        wait_until(lambda: {server.job(each)["status"] for each in short} == {"completed"}, 60, "the other jobs' end")
