"""The autoscaling policy on a real Ray: it counts work and not requests, and a model may sleep."""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.app_process import replicas, wait_until
from tests.serve.up_process import UpProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

AT_ONCE = 8
CHEAP = {"size": "64x64", "nvext": {"num_inference_steps": 1}}
DEAR = {"size": "256x256", "nvext": {"num_inference_steps": 100}}
SCALED_S = 120.0
INGRESS = {
    "name": "ingress",
    # reports each second, where ten is the default
    "autoscaling_config": {"min_replicas": 1, "max_replicas": 1, "metrics_interval_s": 1.0, "look_back_period_s": 3.0},
}


@contextmanager
def images(base_url: str, **fields: Any) -> Generator[list[int]]:
    """`AT_ONCE` callers who ask for image after image; gives the statuses of what was answered."""
    answered: list[int] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            body = {"model": "demo/flux-tiny", "prompt": "a fox", **fields}
            answered.append(httpx.post(f"{base_url}/v1/images/generations", json=body, timeout=240).status_code)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(AT_ONCE):
            pool.submit(ask)
        try:
            yield answered
        finally:
            over.set()


def test_dear_requests_get_more_replicas_than_as_many_cheap_ones_and_none_is_kept_for_nothing(
    demo_home: Path, tmp_path: Path
) -> None:
    bounds = {"min": 0, "max": 2, "target_wait_s": 5, "upscale_delay_s": 0, "downscale_delay_s": 2}
    args = {
        "profile": "demo",
        "home": str(demo_home),
        "media": {"root": (tmp_path / "media").as_uri()},
        "models": {
            "text": None,
            "video": None,
            "image": {"warm_up_sizes": [[64, 64]], "replicas": bounds},
            "other": {"kind": "image", "model": "demo/flux-tiny", "served_name": "other", "replicas": bounds},
        },
    }
    policy = {"policy_function": "serve_app.autoscaling:WaitPolicy"}
    server = UpProcess(tmp_path, args, autoscaling_policy=policy, deployments=[INGRESS])
    with server.running() as process:

        def running() -> int:
            return replicas(process.pid, "image")

        with images(server.base_url, **CHEAP) as answered:
            most = 0

            def enough() -> bool:
                nonlocal most
                most = max(most, running())
                return len(answered) >= 20 * AT_ONCE

            wait_until(enough, SCALED_S, "cheap images")
        assert most == 1

        with images(server.base_url, **DEAR) as answered:
            wait_until(lambda: running() == 2, SCALED_S, "a second replica")
            assert replicas(process.pid, "other") == 0, "each model is scaled by its own work"
        assert set(answered) == {200}

        wait_until(lambda: running() == 0, SCALED_S, "sleep")
        body = {"model": "demo/flux-tiny", "prompt": "a fox", **CHEAP}
        # it waits at the ingress until a replica has started for it
        assert server.post("/v1/images/generations", body).status_code == 200
        assert running() == 1
