"""The application on SGLang over HTTP: image-to-video, and workers killed with -9 in the middle of a generation."""

from __future__ import annotations

import base64
import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from benchmarks.gpu.app import App
from tests.gpu.conftest import serving, workers

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1500), pytest.mark.filterwarnings("ignore")]
KINDS = ["text", "image", "video"] if torch.cuda.is_available() else ["image", "video"]
NAMES = {"text": "llada", "image": "flux", "video": "wan-ti2v"}
LONG = 3000
"""Steps of a generation that is still under way when its worker is killed."""


@pytest.fixture(scope="module")
def app(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    models: dict[str, Any] = {
        kind: {"model": str(checkpoints[name]), "served_name": name} for kind, name in NAMES.items()
    }
    models["text"] |= {"engine_args": {"load_format": "dummy"}, "max_total_tokens": 32768, "trust_remote_code": True}
    models["image"] |= {"limits": {"steps": 9999}, "warm_up_sizes": [[128, 96]]}
    models["video"] |= {"limits": {"steps": 9999}, "warm_up_sizes": [[128, 96, 5]]}
    models |= dict.fromkeys(set(NAMES) - set(KINDS))
    with serving(tmp_path_factory.mktemp("app"), models, wait_s=900) as started:
        yield started


@pytest.fixture(scope="module")
def client(app: App) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=app.base, timeout=300) as made:
        yield made


def image_body(steps: int) -> dict[str, Any]:
    return {"model": "flux", "prompt": "a boat", "size": "128x96", "nvext": {"num_inference_steps": steps, "seed": 3}}


def video_body(steps: int) -> dict[str, Any]:
    nvext = {"num_frames": 5, "fps": 8, "num_inference_steps": steps, "seed": 3}
    return {"model": "wan-ti2v", "prompt": "a fox", "size": "128x96", "nvext": nvext}


def text_body(tokens: int) -> dict[str, Any]:
    return {"model": "llada", "prompt": "boats", "max_tokens": tokens, "nvext": {"ignore_eos": True}}


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (200, 100), (200, 30, 30)).save(out, "PNG")
    return out.getvalue()


def test_image_to_video_by_data_url(client: httpx.Client) -> None:
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    answer = client.post("/v1/videos", json=video_body(3) | {"input_reference": {"image_url": url}})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "completed"
    plain = client.post("/v1/videos", json=video_body(3)).json()
    contents = [client.get(f"/v1/videos/{job['id']}/content").content for job in (answer.json(), plain)]
    assert contents[0] != contents[1]
    assert all(content[4:8] == b"ftyp" for content in contents)


def test_image_to_video_by_upload(client: httpx.Client) -> None:
    fields = {"model": "wan-ti2v", "prompt": "a fox", "size": "128x96", "nvext[num_frames]": "5"}
    fields |= {"nvext[fps]": "8", "nvext[num_inference_steps]": "3"}
    answer = client.post("/v1/videos", data=fields, files={"input_reference": ("a.png", png(), "image/png")})
    assert answer.status_code == 200, answer.text
    job = answer.json()
    deadline = time.monotonic() + 120
    while job["status"] not in ("completed", "failed") and time.monotonic() < deadline:
        time.sleep(0.5)
        job = client.get(f"/v1/videos/{job['id']}").json()
    assert job["status"] == "completed", job


def kill_during(app: App, kind: str, request: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer to a request whose worker is killed while it runs."""
    answers: list[httpx.Response] = []
    sending = threading.Thread(target=lambda: answers.append(request()))
    sending.start()
    time.sleep(2)
    target = busiest(app, kind)
    os.kill(target, signal.SIGKILL)
    killed = time.monotonic()
    sending.join(280)
    print(f"{kind}: answered {time.monotonic() - killed:.1f} s after the kill: {answers[0].status_code}")
    return answers[0]


def busiest(app: App, kind: str) -> int:
    """The worker of `kind`: text engines name theirs sglang::scheduler; of the two others the parent tells."""
    wanted = b"sglang::scheduler" if kind == "text" else b"sgl_diffusion::"
    for pid in workers(app.process.pid):
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        title = Path(f"/proc/{parent}/cmdline").read_bytes()
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(wanted) and f":{kind}".encode() in title:
            return pid
    raise AssertionError(f"no worker of {kind}")


def next_succeeds(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    """It waits for the replica that takes the place of the one whose worker was killed."""
    started = time.monotonic()
    answer = client.post(path, json=body)
    print(f"{path}: served again after {time.monotonic() - started:.1f} s")
    assert answer.status_code == 200, answer.text


def test_a_killed_image_worker(app: App, client: httpx.Client) -> None:
    before = len(workers(app.process.pid))
    answer = kill_during(app, "image", lambda: client.post("/v1/images/generations", json=image_body(LONG)))
    assert answer.status_code in (500, 503), answer.text
    assert answer.json()["error"]["code"] == "engine_died", answer.text
    next_succeeds(client, "/v1/images/generations", image_body(3))
    assert len(workers(app.process.pid)) == before


def test_a_killed_video_worker_has_its_job_done_again(app: App, client: httpx.Client) -> None:
    before = len(workers(app.process.pid))
    answer = kill_during(app, "video", lambda: client.post("/v1/videos", json=video_body(LONG)))
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "completed", answer.text
    assert len(workers(app.process.pid)) == before


@pytest.mark.skipif("text" not in KINDS, reason="SGLang's language models need a GPU")
def test_a_killed_text_worker(app: App, client: httpx.Client) -> None:
    before = len(workers(app.process.pid))
    answer = kill_during(app, "text", lambda: client.post("/v1/completions", json=text_body(4000)))
    assert answer.status_code in (500, 503), answer.text
    assert answer.json()["error"]["code"] == "engine_died", answer.text
    next_succeeds(client, "/v1/completions", text_body(32))
    assert len(workers(app.process.pid)) == before


def test_nothing_is_left_over(app: App) -> None:
    running = workers(app.process.pid)
    assert running
    assert app.stop() == []
    assert not [pid for pid in running if Path(f"/proc/{pid}").exists()]
