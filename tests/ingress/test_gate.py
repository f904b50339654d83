"""Draining: what a caller sees while the gate is shut, and what becomes of the jobs when the application ends."""

from __future__ import annotations

import asyncio

import pytest

from serve_app.errors import Unavailable
from serve_app.ingress.quotas import Gate
from serve_app.ingress.services import Services
from serve_app.tasks import ModelCard
from tests.ingress.conftest import Running, Serving, with_client
from tests.jobs.conftest import orphans

CHAT = {"model": "demo/llada2-tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 32}
VIDEO = {"prompt": "A raccoon", "model": "demo/wan-tiny", "size": "64x64", "seconds": "1"}
WORK = (
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", {"model": "demo/llada2-tiny", "prompt": "Hello", "max_tokens": 32}),
    ("/v1/images/generations", {"model": "demo/flux-tiny", "prompt": "A fox", "size": "64x64"}),
    ("/v1/videos", VIDEO),
    ("/v1/videos/sync", VIDEO),
)


def test_counts_what_is_inside_even_if_it_fails() -> None:
    gate = Gate()
    with gate.passed():
        assert gate.inside == 1
        gate.shut = True
        with pytest.raises(Unavailable), gate.passed():
            pass
        assert gate.inside == 1
    with pytest.raises(Unavailable):
        gate.check()
    assert gate.inside == 0


async def test_new_work_is_refused_and_what_runs_is_finished(serving: Serving) -> None:
    with serving() as running:
        async with running.client() as client:
            job = (await client.post("/v1/videos", json=VIDEO, headers={"Prefer": "respond-async"})).json()
            await inside(running, 0)
            long = asyncio.create_task(client.post("/v1/videos", json=VIDEO, headers={"Prefer": "wait=60"}))
            await inside(running, 1)
            running.services.gate.shut = True
            for path, body in WORK:
                refused = await client.post(path, json=body)
                assert refused.status_code == 503, path
                assert refused.json()["error"]["code"] == "unavailable"
                assert int(refused.headers["retry-after"]) >= 1
            ready = await client.get("/ready")
            assert (ready.status_code, "draining" in ready.json()["error"]["message"]) == (503, True)
            assert (await client.get(f"/v1/videos/{job['id']}")).status_code == 200
            assert (await client.post(f"/v1/videos/{job['id']}/cancel")).status_code == 200
            assert (await long).json()["status"] == "completed"
            await inside(running, 0)  # counted down a moment after the answer


async def test_an_application_that_ends_gives_up_its_jobs_at_once(serving: Serving) -> None:
    def with_a_replica_that_is_gone(services: Services) -> Services:
        return with_client(services, "video", Gone())

    with serving(with_a_replica_that_is_gone, jobs={"stale_s": 600}) as running:
        async with running.client() as client:
            job_id = (await client.post("/v1/videos", json=VIDEO, headers={"Prefer": "respond-async"})).json()["id"]
        assert ("public", job_id) not in await orphans(running.services.jobs)
    assert ("public", job_id) in await orphans(running.services.jobs)
    await running.services.jobs.delete("public", job_id)


async def inside(running: Running, number: int) -> None:
    async with asyncio.timeout(30):
        while running.services.gate.inside != number:  # noqa: ASYNC110 counted in another thread
            await asyncio.sleep(0.01)


class Gone:
    """A video client whose replicas take no job."""

    async def describe(self) -> ModelCard:
        raise Unavailable("gone")

    async def run(self, owner: str, job_id: str) -> None:
        raise Unavailable(f"gone: {owner} {job_id}")
