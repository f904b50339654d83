"""A video model over two GPUs behind HTTP: 50 videos cancelled at random, each of its workers killed, and the end."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.gpu.app import App, lives
from tests.gpu.conftest import serving, workers

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="two workers need two GPUs"),
]
TITLE = b"sgl_diffusion::scheduler_TP%d"
"""What SGLang's worker of a rank calls itself where a model is split by tensor."""
CANCELS = 50
FREE_S = 5.0
"""Within which the GPUs have to be free of a cancelled video: a step, and a second."""
LONG = 1500
"""Steps of a generation that is still under way when it is cancelled, or a worker of it is killed."""


@pytest.fixture(scope="module")
def app(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("two")
    video = {"model": str(checkpoints["wan-1.3b"]), "served_name": "wan", "gpus": 2, "parallel": "tensor"}
    # no preset with step caching, which would be tried at each start
    video |= {"limits": {"steps": 9999}, "warm_up_sizes": [[128, 96, 5]], "quality": {"low": None, "medium": None}}
    with serving(folder, {"text": None, "image": None, "video": video}, wait_s=400) as started:
        yield started
        print((folder / "app.log").read_text()[-3000:])


@pytest.fixture(scope="module")
def client(app: App) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=app.base, timeout=300) as made:
        yield made


def ask(client: httpx.Client, steps: int, prefer: str = "respond-async") -> dict[str, Any]:
    nvext = {"num_frames": 5, "fps": 8, "num_inference_steps": steps, "seed": 3}
    body = {"model": "wan", "prompt": "a fox", "size": "128x96", "nvext": nvext}
    answer = client.post("/v1/videos", json=body, headers={"Prefer": prefer})
    assert answer.status_code in (200, 202), answer.text
    return answer.json()


def look(client: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    answer = client.get(f"/v1/videos/{job['id']}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def short_video(client: httpx.Client) -> bytes:
    job = ask(client, 3, "wait=120")
    assert job["status"] == "completed", job
    content = client.get(f"/v1/videos/{job['id']}/content", follow_redirects=True)
    assert content.status_code == 200, content.text
    return content.content


def wait_until(what: str, is_so: Callable[[], bool], wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while not is_so():
        assert time.monotonic() < deadline, f"not after {wait_s:g} s: {what}"
        time.sleep(0.05)


def ranks(app: App) -> dict[int, int]:
    """The process of each worker by its rank."""
    titles = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers(app.process.pid)}
    return {rank: pid for pid, title in titles.items() for rank in (0, 1) if title.startswith(TITLE % rank)}


def test_videos_cancelled_at_random(app: App, client: httpx.Client) -> None:
    """Both workers stop at the same step: one that went on would wait for the other for ever."""
    before, rng = short_video(client), random.Random(4)
    assert short_video(client) == before
    started = time.monotonic()
    for _ in range(5):
        short_video(client)
    usual = (time.monotonic() - started) / 5
    freed: list[float] = []
    jobs: list[dict[str, Any]] = []
    for _ in range(CANCELS):
        jobs.append(ask(client, rng.randrange(20, LONG)))
        time.sleep(rng.uniform(0, 0.6))
        asked = time.monotonic()
        answer = client.post(f"/v1/videos/{jobs[-1]['id']}/cancel")
        assert answer.status_code == 200, answer.text
        assert short_video(client) == before
        freed.append(time.monotonic() - asked - usual)
    freed.sort()
    print(
        f"a short video takes {usual:.2f} s; after a cancel {freed[CANCELS // 2]:.2f} s more, at most {freed[-1]:.2f}"
    )
    assert freed[-1] < FREE_S
    ends = [look(client, job) for job in jobs]
    assert all(job["status"] in ("completed", "failed") for job in ends), ends
    assert sum(job["status"] == "failed" for job in ends) > CANCELS // 2
    assert len(workers(app.process.pid)) == 2


@pytest.mark.parametrize("rank", [0, 1])
def test_the_job_of_a_killed_worker_is_done_again(app: App, client: httpx.Client, rank: int) -> None:
    before = ranks(app)
    assert sorted(before) == [0, 1]
    job = ask(client, LONG)
    wait_until("the video is under way", lambda: look(client, job)["status"] == "in_progress", 30)
    time.sleep(1)
    assert look(client, job)["status"] == "in_progress"
    os.kill(before[rank], signal.SIGKILL)
    killed = time.monotonic()
    wait_until("both workers are gone", lambda: not any(lives(pid) for pid in before.values()), 60)
    print(f"rank {rank} killed: the other one was gone after {time.monotonic() - killed:.1f} s")
    wait_until("the job has ended", lambda: look(client, job)["status"] in ("completed", "failed"), 240)
    print(f"its job was done after {time.monotonic() - killed:.1f} s")
    assert look(client, job)["status"] == "completed", look(client, job)
    assert short_video(client)
    assert sorted(ranks(app)) == [0, 1]
    assert len(workers(app.process.pid)) == 2


def test_nothing_is_left_over(app: App) -> None:
    running = workers(app.process.pid)
    assert running
    assert app.stop() == []
    assert not [pid for pid in running if lives(pid)]
