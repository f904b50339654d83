"""A replica whose engine dies: its request fails, the next one waits for the replica that takes its place.

Real Serve, slot and ingress; the engine is one that dies when the prompt says so.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve

from serve_app.deployments.generation import Slot
from serve_app.deployments.replica import Served, leave
from serve_app.errors import EngineDied
from serve_app.model_settings import TextSettings
from serve_app.tasks import ModelCard, TextBlock, TextEvent, TextResult, TextTask
from tests.serve.test_handles import END, SMALL, ask, served_text


class Mortal:
    card = ModelCard(model="m", kind="text", engine="none")

    async def warm_up(self) -> None: ...

    async def check_health(self) -> None: ...

    def close(self) -> None: ...


class Replica:
    """Tells its process id; at the prompt "die" its engine dies. Notes in `notes` when it is closed."""

    def __init__(self, notes: str) -> None:
        self._notes = Path(notes)
        self._slot = Slot(Mortal(), TextSettings(model="m"), width=2, on_death=partial(leave, self.close))

    async def describe(self) -> ModelCard:
        return self._slot.engine.card

    async def generate(self, task: TextTask) -> TextResult:
        return TextResult(text=await self._answer(task), end=END)

    async def stream(self, task: TextTask) -> AsyncGenerator[TextEvent, None]:
        yield TextBlock(block=0, text=await self._answer(task), tokens=1)
        yield END

    async def _answer(self, task: TextTask) -> str:
        async with self._slot.turn() as turn, turn.work():
            if task.prompt == "die":
                raise EngineDied("The worker process is gone.")
            return str(os.getpid())

    async def check_health(self) -> None:
        await self._slot.check_health()

    async def close(self) -> None:
        (self._notes / f"{os.getpid()}.closed").touch()
        self._slot.close()


class ServedReplica(Served, Replica): ...


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notes")


@pytest.fixture(scope="module")
def url(cluster: str, notes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    deployment: Any = serve.deployment
    replica = deployment(ServedReplica).options(
        num_replicas=2, max_ongoing_requests=3, health_check_period_s=5, ray_actor_options=SMALL
    )
    with served_text(replica.bind(str(notes)), "death", tmp_path_factory.mktemp("home")):
        yield f"{cluster}/death"


def text_of(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["text"]


async def both(url: str) -> set[str]:
    """The process ids of the two replicas, as soon as both have answered."""
    seen: set[str] = set()
    async with asyncio.timeout(120):
        while len(seen) < 2:
            seen |= {text_of(answer) for answer in await asyncio.gather(*(ask(url, "hello") for _ in range(4)))}
    return seen


async def test_only_the_request_that_killed_the_engine_fails(url: str, notes: Path) -> None:
    before = await both(url)
    died = await ask(url, "die")
    assert (died.status_code, died.json()["error"]["code"]) == (500, "engine_died")
    # while it leaves, and while another comes, nobody hears of it
    deadline, answers = time.monotonic() + 12, list[httpx.Response]()
    while time.monotonic() < deadline or len(answers) <= 40:
        answers += await asyncio.gather(*(ask(url, "hello", stream=i % 2 == 0) for i in range(4)))
        await asyncio.sleep(0.1)
    assert {answer.status_code for answer in answers} == {200}
    assert all('"error"' not in answer.text for answer in answers)
    closed = {path.stem for path in list(notes.glob("*.closed"))} & before  # noqa: ASYNC240
    assert len(closed) == 1
    assert not closed & await both(url)
