"""What an operator is shown: every metric that the Grafana dashboard names exists on a running application."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import ray

from serve_app.jobs.store import JobStore
from serve_app.settings import Settings, resolve
from serve_app.storage import open_store
from serve_app.telemetry.metrics import METRICS
from tests.jobs.conftest import make_task
from tests.serve.conftest import Served

DASHBOARD = json.loads((Path(__file__).parents[2] / "cluster" / "grafana-dashboard.json").read_text())
NAME = re.compile(r"\bray_[a-z0-9_]+")
GPUS_ONLY = "ray_diffusion_serve_gpu_seconds_total"
"""The demo profile holds no GPU, and a counter that was never added to does not exist."""
REPORTED_S = 60.0
"""Ray's processes report their metrics every ten seconds."""


def named() -> set[str]:
    """The metrics in the dashboard's expressions, a histogram's by the name of its family."""
    panels: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    found = {name for panel in panels for target in panel["targets"] for name in NAME.findall(target["expr"])}
    assert found
    return {re.sub(r"_(bucket|count)$", "", name) for name in found}


def test_the_dashboard_names_every_metric_of_ours() -> None:
    ours = {f"ray_diffusion_serve_{name}{'_total' * (metric.type == 'counter')}" for name, metric in METRICS.items()}
    assert {name for name in named() if name.startswith("ray_diffusion_serve_")} == ours


def exist(base_url: str) -> set[str]:
    text = httpx.get(f"{base_url}/metrics", timeout=30).raise_for_status().text
    families = set(re.findall(r"^# TYPE (\S+) ", text, flags=re.MULTILINE))
    return {name for name in families if re.search(rf"^{name}(_bucket)?\{{", text, flags=re.MULTILINE)}


def test_every_metric_of_the_dashboard_exists_after_one_request_of_each_kind(served: Served) -> None:
    with httpx.Client(base_url=served.base_url, timeout=120) as client:
        for path, body in (
            ("/v1/completions", {"model": "demo/llada2-tiny", "prompt": "Hello", "max_tokens": 32}),
            ("/v1/images/generations", {"model": "demo/flux-tiny", "prompt": "a fox", "size": "64x64"}),
            ("/v1/videos/sync", {"model": "demo/wan-tiny", "prompt": "a river", "size": "64x64", "seconds": "1"}),
        ):
            client.post(path, json=body).raise_for_status()
        assert client.post("/v1/completions", json={}).status_code == 400
    # a job that no one looks after: the sweeper dispatches it again
    settings = resolve(Settings.model_validate(served.args), "demo")
    asyncio.run(JobStore(open_store(settings), settings).create(make_task(), dispatcher=""))
    wanted = named() - {GPUS_ONLY}
    deadline = time.monotonic() + REPORTED_S
    while (missing := wanted - exist(served.base_url)) and time.monotonic() < deadline:
        time.sleep(1)
    assert missing == set()
    text = httpx.get(f"{served.base_url}/metrics", timeout=30).text
    assert "NodeAddress=" in text
    assert f'"{ray.util.get_node_ip_address()}' not in text, "anyone may read it"
