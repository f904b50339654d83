"""Two image models, one of them with two adapters, and two video models in one application on a real Ray: chosen by
name, taken out and put back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import httpx
import openai
import pytest
from ray import serve

from serve_app import demo
from serve_app.app import build
from serve_app.settings import Settings
from tests.engines.diffusers.adapters import write_adapter
from tests.serve.app_process import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAME = "models"
IMAGE = {"prompt": "a fox", "size": "64x64", "nvext": {"num_inference_steps": 1, "seed": 1}}
VIDEO = {"prompt": "a river", "size": "64x64"}
LONG = {**VIDEO, "size": "128x128", "nvext": {"num_frames": 33, "num_inference_steps": 12}}
"""A job that takes seconds: what comes after it waits."""
ASYNC = {"Prefer": "respond-async"}
START_S, END_S = 120.0, 180.0


@pytest.fixture(scope="module")
def adapters(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two of the image model's, and one of the video model's."""
    folder = tmp_path_factory.mktemp("adapters")
    flux, wan = (demo.find(f"demo/{name}-tiny") / "transformer" for name in ("flux", "wan"))
    drawn = diffusers.FluxTransformer2DModel.from_pretrained(flux)
    filmed = diffusers.WanTransformer3DModel.from_pretrained(wan)
    models = {"pixel-art": drawn, "sketch": drawn, "rain": filmed}
    return {
        name: {"path": str(write_adapter(folder / f"{name}.safetensors", model, seed))}
        for seed, (name, model) in enumerate(models.items())
    }


def args(home: Path, media: Path, adapters: dict[str, Any], **models: Any) -> dict[str, Any]:
    small = {"warm_up_sizes": [[64, 64, 5]], "defaults": {"num_frames": 5}}
    return {
        "profile": "demo",
        "home": str(home),
        "media": {"root": media.as_uri()},
        "jobs": {"sweep_s": 0.5},
        "models": {
            "text": None,
            "image": {
                "warm_up_sizes": [[64, 64]],
                "adapters": {name: adapters[name] for name in ("pixel-art", "sketch")},
            },
            "poster": {
                "kind": "image",
                "model": "demo/flux-tiny",
                "served_name": "poster",
                "warm_up_sizes": [[64, 64]],
            },
            "video": small,
            "frames": {
                "kind": "video",
                "model": "demo/wan-tiny",
                "served_name": "frames",
                "adapters": {"rain": adapters["rain"]},
                **small,
            },
            **models,
        },
    }


def deploy(settings: dict[str, Any]) -> None:
    serve.run(build(Settings.model_validate(settings)), name=NAME, route_prefix=f"/{NAME}")


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def client(cluster: str, demo_home: Path, media: Path, adapters: dict[str, Any]) -> Iterator[httpx.Client]:
    deploy(args(demo_home, media, adapters))
    with httpx.Client(base_url=f"{cluster}/{NAME}", timeout=END_S) as made:
        wait_until(lambda: made.get("/ready").status_code == 200, START_S, "the models")
        yield made
    serve.delete(NAME)


def test_all_are_served_and_one_is_taken_out_and_put_back(
    client: httpx.Client, demo_home: Path, media: Path, adapters: dict[str, Any]
) -> None:
    with openai.OpenAI(base_url=f"{client.base_url}v1", api_key="none", max_retries=0) as official:
        assert {model.id: (model.model_extra or {})["parent"] for model in official.models.list()} == {
            "demo/flux-tiny": None,
            "pixel-art": "demo/flux-tiny",
            "sketch": "demo/flux-tiny",
            "demo/wan-tiny": None,
            "poster": None,
            "frames": None,
            "rain": "frames",
        }
        made = official.images.generate(model="sketch", prompt="a fox", size="64x64")  # pyright: ignore[reportArgumentType, reportCallIssue]
        assert made.model_dump()["nvext"]["adapters"] == [{"name": "sketch", "scale": 1.0}]
    rows = client.get("/ready").json()["models"]
    assert {name: (row["model"], row["state"], row["replicas"]) for name, row in rows.items()} == {
        "image": ("demo/flux-tiny", "ready", 1),
        "poster": ("poster", "ready", 1),
        "video": ("demo/wan-tiny", "ready", 1),
        "frames": ("frames", "ready", 1),
    }
    files: dict[str, bytes] = {}
    for model in ("poster", "demo/flux-tiny", "pixel-art", "sketch"):
        [drawn] = client.post("/v1/images/generations", json={**IMAGE, "model": model}).json()["data"]
        files[model] = client.get(drawn["url"]).content
    for model in ("poster", "demo/flux-tiny"):
        assert f"model\0{model}".encode() in files[model]
    assert len(set(files.values())) == len(files)
    assert b"adapters\0pixel-art=1" in files["pixel-art"]
    assert client.post("/v1/videos", json={**VIDEO, "nvext": {}}).json()["status"] == "completed"

    asked = ("frames", "frames", "rain", "rain")
    jobs = [client.post("/v1/videos", json={**LONG, "model": id}, headers=ASYNC).json()["id"] for id in asked]
    deploy(args(demo_home, media, adapters, frames=None))
    refused = client.post("/v1/videos", json={**VIDEO, "model": "frames"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    time.sleep(2)  # a few sweeps, none of which has it run
    waiting = [job for job in look(client, jobs) if job["status"] == "queued"]
    assert waiting
    assert all(f"'{job['model']}' is not served" in job["status_message"] for job in waiting)
    assert "rain" in {job["model"] for job in waiting}
    assert client.post("/v1/videos", json={**VIDEO, "nvext": {}}).json()["status"] == "completed"

    deploy(args(demo_home, media, adapters))
    wait_until(lambda: {job["status"] for job in look(client, jobs)} == {"completed"}, END_S, "the jobs that waited")


def look(client: httpx.Client, jobs: list[str]) -> list[dict[str, Any]]:
    return [client.get(f"/v1/videos/{job_id}").json() for job_id in jobs]
