"""What /health and /ready tell, and the latest answer to a question that may hang: who wants it gets what is known."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serve_app.ingress.readiness import Latest
from serve_app.ingress.services import ModelState
from tests.ingress.conftest import Serving


class Oracle:
    """Answers what is put into `answers`, and hangs while nothing is."""

    def __init__(self) -> None:
        self.answers: queue.Queue[int | Exception] = queue.Queue()
        self.asked = 0

    def __call__(self) -> int:
        self.asked += 1
        answer = self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def oracle() -> Iterator[Oracle]:
    one = Oracle()
    yield one
    one.answers.put(0)  # frees the thread that hangs


async def test_an_answer_is_kept_for_a_while(oracle: Oracle) -> None:
    latest = Latest(oracle, 0, keep_s=60)
    oracle.answers.put(1)
    assert [await latest() for _ in range(3)] == [1, 1, 1]
    assert oracle.asked == 1


async def test_while_the_question_hangs_the_last_answer_stands(oracle: Oracle) -> None:
    latest = Latest(oracle, 0, keep_s=0, patience_s=0.05)
    oracle.answers.put(1)
    while await latest() != 1:
        pass
    assert await asyncio.gather(*(latest() for _ in range(5))) == [1] * 5
    assert oracle.asked == 2, "asked again while the question was open"
    oracle.answers.put(2)
    async with asyncio.timeout(30):
        while await latest() != 2:
            pass


async def test_before_the_first_answer_there_is_what_was_said_to_be(oracle: Oracle) -> None:
    assert await Latest(oracle, -1, patience_s=0.05)() == -1


async def test_a_failure_is_raised_and_asked_again(oracle: Oracle) -> None:
    latest = Latest(oracle, 0, keep_s=0, patience_s=60)
    oracle.answers.put(LookupError("gone"))
    with pytest.raises(LookupError, match="gone"):
        await latest()
    oracle.answers.put(3)
    assert await latest() == 3


async def test_health_and_readiness(client: httpx.AsyncClient, serving: Serving) -> None:
    assert (await client.get("/health")).json() == {"status": "ok", "instance": "tests"}
    ready = await client.get("/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")

    async def half() -> Any:
        return {"text": ModelState("ready", 1), "image": ModelState("starting", 0)}

    def starting(services: Any) -> Any:
        services.readiness = half
        return services

    def draining(services: Any) -> Any:
        services.gate.shut = True
        return services

    for change, said in ((starting, "image"), (draining, "draining")):
        with serving(change) as running:
            async with running.client() as other:
                answer = await other.get("/ready")
                assert answer.status_code == 503
                assert said in answer.json()["error"]["message"]
                assert int(answer.headers["retry-after"]) >= 1
                if change is starting:  # who waits sees what it waits for
                    states = {name: row["state"] for name, row in answer.json()["models"].items()}
                    assert states == {"text": "ready", "image": "starting", "video": "ready"}
                assert (await other.get("/health")).status_code == 200
