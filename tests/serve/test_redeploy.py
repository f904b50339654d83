"""A rolling redeploy under load, on a really served app: no request fails and no job is lost."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager

import httpx
import pytest

from tests.serve.app_process import wait_until
from tests.serve.conftest import Served, deploy

TEXT = {
    "model": "demo/llada2-tiny",
    "messages": [{"role": "user", "content": "Hello"}],
    "max_tokens": 16,
}
IMAGE = {"model": "demo/flux-tiny", "prompt": "a fox", "size": "64x64"}
VIDEO = {
    "model": "demo/wan-tiny",
    "prompt": "a river",
    "size": "64x64",
    "nvext": {"num_frames": 5, "num_inference_steps": 1},
}
NEW_STEPS = 2
"""The default of images after the redeploy, which tells that the new replicas answer."""
ROUND_S = 120.0
"""How long every kind of request may take to be answered once more; a new replica may have to start for it."""


class Traffic:
    """Sends each kind of request again and again, one after the other, and keeps what went wrong."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._over = threading.Event()
        self.kinds: tuple[Callable[[httpx.Client], None], ...] = (
            self._chat, self._stream, self._image, self._job, self._video, self._reads,
        )  # fmt: skip
        self.answered: Counter[str] = Counter()
        self.failures: list[str] = []
        self.jobs: list[str] = []
        self.steps: set[int] = set()

    @contextmanager
    def running(self) -> Generator[None]:
        threads = [threading.Thread(target=self._repeat, args=(send,)) for send in self.kinds]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def another_round(self) -> None:
        """Returns when every kind has been answered twice more: the second was sent after the call."""
        before = Counter(self.answered)
        for kind in self.kinds:
            name = kind.__name__
            wait_until(lambda name=name: self.answered[name] >= before[name] + 2, ROUND_S, f"answers to {name}")

    def _repeat(self, send: Callable[[httpx.Client], None]) -> None:
        with httpx.Client(base_url=self._base_url, timeout=ROUND_S) as client:
            while not self._over.is_set():
                try:
                    send(client)
                except (httpx.HTTPError, AssertionError) as error:
                    said = error.response.text if isinstance(error, httpx.HTTPStatusError) else ""
                    self.failures.append(f"{send.__name__}: {error!r} {said}")
                self.answered[send.__name__] += 1

    def _chat(self, client: httpx.Client) -> None:
        client.post("/v1/chat/completions", json=TEXT).raise_for_status()

    def _stream(self, client: httpx.Client) -> None:
        with client.stream("POST", "/v1/chat/completions", json={**TEXT, "stream": True}) as answer:
            answer.raise_for_status()
            lines = [line for line in answer.iter_lines() if line]
        assert lines[-1] == "data: [DONE]", lines[-1]

    def _image(self, client: httpx.Client) -> None:
        made = client.post("/v1/images/generations", json=IMAGE).raise_for_status().json()
        client.get(made["data"][0]["url"]).raise_for_status()
        self.steps.add(made["nvext"]["num_inference_steps"])

    def _job(self, client: httpx.Client) -> None:
        job = client.post("/v1/videos", json=VIDEO, headers={"Prefer": "respond-async"}).raise_for_status().json()
        self.jobs.append(job["id"])
        while job["status"] in ("queued", "in_progress"):
            self._over.wait(0.2)
            job = client.get(f"/v1/videos/{job['id']}").raise_for_status().json()
        assert job["status"] == "completed", job

    def _video(self, client: httpx.Client) -> None:
        made = client.post("/v1/videos", json=VIDEO, headers={"Prefer": "wait=100"}).raise_for_status().json()
        assert made["status"] == "completed", made
        client.get(f"/v1/videos/{made['id']}/content").raise_for_status()

    def _reads(self, client: httpx.Client) -> None:
        for path in ("/ready", "/v1/models", "/v1/videos?limit=5"):
            answer = client.get(path)
            # a model that is being replaced may be said to start; it is asked all the same
            assert answer.status_code == 200 or path == "/ready", answer.text
        self._over.wait(0.1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_redeploy_under_load_fails_no_request_and_loses_no_job(served: Served) -> None:
    traffic = Traffic(served.base_url)
    with traffic.running():
        traffic.another_round()
        before = set(traffic.steps)
        deploy({**served.args, "models": {"image": {"defaults": {"num_inference_steps": NEW_STEPS}}}})
        traffic.another_round()
        wait_until(lambda: NEW_STEPS in traffic.steps, ROUND_S, "the new default")
    assert traffic.failures == []
    assert NEW_STEPS not in before
    assert traffic.jobs
    for job_id in traffic.jobs:
        job = httpx.get(f"{served.base_url}/v1/videos/{job_id}").raise_for_status().json()
        assert (job["status"], job["error"]) == ("completed", None)
