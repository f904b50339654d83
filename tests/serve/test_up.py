"""`diffusion-serve up` as a process of its own: what a signal to it does to requests and to jobs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.app_process import wait_until
from tests.serve.up_process import UpProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

JOB = {"model": "demo/wan-tiny", "prompt": "a river", "size": "64x64", "nvext": {"num_frames": 9}}
LONG_JOB = {**JOB, "size": "256x256", "nvext": {"num_frames": 49, "num_inference_steps": 100}}
IMAGE = {"model": "demo/flux-tiny", "prompt": "a fox", "size": "256x256", "nvext": {"num_inference_steps": 16}}


@pytest.fixture
def args(demo_home: Path, tmp_path: Path) -> dict[str, Any]:
    media = tmp_path / "media"
    media.mkdir()
    return {
        "profile": "demo",
        "home": str(demo_home),
        "media": {"root": media.as_uri()},
        "models": {
            "text": None,
            "image": {"warm_up_sizes": [[64, 64]]},
            "video": {"warm_up_sizes": [[64, 64, 5]]},
        },
        "jobs": {"sweep_s": 1},
    }


def test_a_stop_finishes_requests_and_hands_jobs_back(args: dict[str, Any], tmp_path: Path) -> None:
    server = UpProcess(tmp_path, args)
    with server.running() as process, ThreadPoolExecutor(8) as pool:
        # more than the one replica takes at a time, so that some wait at the ingress
        asked = [pool.submit(server.post, "/v1/images/generations", IMAGE) for _ in range(5)]
        long, *short = [server.submit(LONG_JOB), server.submit(JOB), server.submit(JOB)]
        wait_until(lambda: server.job(long)["status"] == "in_progress", 240, "the job's start")
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: httpx.get(f"{server.base_url}/ready", timeout=30).status_code == 503, 240, "/ready's no")
        assert server.post("/v1/images/generations", IMAGE).status_code == 503
        # on a slow machine one may come too late; it hears so
        answers = [each.result() for each in asked]
        assert {answer.status_code for answer in answers if "is draining" not in answer.text} == {200}
        assert process.wait(240) == 0, server.tail()
        assert_calm(server.log(), f"ready: open http://localhost:{server.port}/ in a browser")
    with server.running() as process:
        assert server.job(long)["status"] in ("queued", "in_progress")
        httpx.post(f"{server.base_url}/v1/videos/{long}/cancel").raise_for_status()
        wait_until(lambda: {server.job(each)["status"] for each in short} == {"completed"}, 240, "the other jobs' end")


def assert_calm(log: str, ready: str) -> None:
    """The log of a start and a stop that went well: what a person wants to know, and nothing that frightens."""
    # a busy machine is warned of, rightly
    told = [line for line in log.splitlines() if "serve_app.access" not in line and "WARNING" not in line]
    first, last = next(i for i, line in enumerate(told) if line.startswith("image: ready")), told.index("stopped")
    assert first < next(i for i, line in enumerate(told) if line.startswith(ready)) < last == len(told) - 1
    assert any("DEMO PROFILE" in line for line in told)
    assert len(told) < 20, log
    assert not [line for line in told if "killed" in line or "Traceback" in line or "ERROR" in line]


def run_up(server: UpProcess) -> subprocess.CompletedProcess[str]:
    """`diffusion-serve up` that is to end by itself."""
    with server.started() as process:
        process.wait(240)
    return subprocess.CompletedProcess(process.args, process.returncode, server.log())


def test_a_start_that_fails_ends_with_the_replicas_own_words(
    args: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT", "1")  # or Serve tries it three times
    empty = tmp_path / "empty"
    empty.mkdir()
    args["models"] |= {"video": None, "image": {"model": str(empty), "engine": "diffusers"}}
    done = run_up(UpProcess(tmp_path, args))
    assert done.returncode == 1, done.stdout[-4000:]
    said = f"image did not start: ValueError: '{empty}' is no image model: Error no file named model_index.json found"
    assert said in done.stdout
    assert "AttributeError" not in done.stdout


def test_a_taken_port_is_told_before_anything_starts(args: dict[str, Any], tmp_path: Path) -> None:
    server = UpProcess(tmp_path, args)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as Serve's proxy has it
        listener.bind(("127.0.0.1", server.port))
        listener.listen()
        done = run_up(server)
    assert done.returncode == 1, done.stdout[-4000:]
    assert f"port {server.port} of 127.0.0.1 is taken by process {os.getpid()} (" in done.stdout
    assert "Ray" not in done.stdout


def test_a_stop_during_the_start_is_quiet(args: dict[str, Any], tmp_path: Path) -> None:
    server = UpProcess(tmp_path, args)
    with server.started() as process:
        wait_until(lambda: "starting Serve" in server.log(), 120, "Ray's start")
        process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 0, server.tail()
    assert "Traceback" not in server.log()
