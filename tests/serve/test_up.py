"""`diffusion-serve up` as a process of its own: what a signal to it does to requests and to jobs."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.app_process import wait_until
from tests.serve.up_process import UpProcess

pytestmark = pytest.mark.timeout(600)

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
        "text": {"enabled": False},
        "image": {"warm_up_sizes": [[64, 64]]},
        "video": {"warm_up_sizes": [[64, 64, 5]]},
        "jobs": {"sweep_s": 1},
    }


def test_a_stop_finishes_requests_and_hands_jobs_back(args: dict[str, Any], tmp_path: Path) -> None:
    server = UpProcess(tmp_path, args)
    with server.running() as process, ThreadPoolExecutor(8) as pool:
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
    with server.running() as process:
        assert server.job(long)["status"] in ("queued", "in_progress")
        httpx.post(f"{server.base_url}/v1/videos/{long}/cancel").raise_for_status()
        wait_until(lambda: {server.job(each)["status"] for each in short} == {"completed"}, 60, "the other jobs' end")
