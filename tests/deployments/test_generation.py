"""The slot around an engine, with an engine of the test's own that can be told to die."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest

from serve_app.deployments.generation import Slot, generation
from serve_app.deployments.replica import Served
from serve_app.errors import EngineDied, GenerationFailed, ReplicaLeaving, TimedOut
from serve_app.ledger import Ledger
from serve_app.model_settings import VideoSettings
from serve_app.settings import LedgerSettings
from serve_app.storage.local import LocalStore
from serve_app.tasks import ModelCard
from serve_app.telemetry import logs
from tests.jobs.conftest import make_task
from tests.test_scratch import left_behind

MODEL = VideoSettings(gpus=2, time_limit_s=0.1)


class Mortal:
    card = ModelCard(model="mortal", kind="video", engine="none")

    def __init__(self) -> None:
        self.warmed_up = 0
        self.closed = False
        self.dead = False

    async def warm_up(self) -> None:
        await asyncio.sleep(0.01)
        self.warmed_up += 1

    async def check_health(self) -> None:
        if self.dead:
            raise EngineDied("The worker process is gone.")

    def close(self) -> None:
        self.closed = True


async def die(slot: Slot[Mortal]) -> None:
    async with slot.turn() as turn, turn.work():
        raise EngineDied("The worker process is gone.")


async def test_the_first_health_check_warms_up_once() -> None:
    engine = Mortal()
    slot = Slot(engine, MODEL)
    assert engine.warmed_up == 0
    await asyncio.gather(*(slot.check_health() for _ in range(5)))
    assert engine.warmed_up == 1


async def test_a_replica_whose_warm_up_failed_is_not_healthy() -> None:
    class Cold(Mortal):
        async def warm_up(self) -> None:
            raise GenerationFailed("out of memory")

    slot = Slot(Cold(), MODEL)
    for _ in range(2):
        with pytest.raises(GenerationFailed):
            await slot.check_health()


async def test_an_engine_that_died_in_a_generation_is_never_asked_again() -> None:
    slot = Slot(Mortal(), MODEL)
    await slot.check_health()
    with pytest.raises(EngineDied):
        await die(slot)
    with pytest.raises(ReplicaLeaving, match="worker process"):
        await slot.check_health()
    with pytest.raises(ReplicaLeaving):
        await die(slot)


async def test_a_death_is_told_once() -> None:
    told: list[str] = []

    async def tell() -> None:
        told.append("died")

    slot = Slot(Mortal(), MODEL, width=2, on_death=tell)
    await asyncio.gather(die(slot), die(slot), return_exceptions=True)
    await asyncio.sleep(0)
    assert told == ["died"]


async def test_an_engine_found_dead_fails_those_who_wait_and_those_who_come() -> None:
    engine = Mortal()
    slot = Slot(engine, MODEL)
    async with slot.turn():
        waiting = asyncio.create_task(die(slot))
        await asyncio.sleep(0)
        engine.dead = True
        with pytest.raises(EngineDied):
            await slot.check_health()
    with pytest.raises(ReplicaLeaving):
        await waiting


async def test_the_next_turn_begins_when_the_one_before_ends() -> None:
    slot = Slot(Mortal(), MODEL)
    order: list[str] = []

    async def one(name: str) -> None:
        async with slot.turn():
            order.append(f"{name} begins")
            await asyncio.sleep(0.01)
            order.append(f"{name} ends")

    await asyncio.gather(one("a"), one("b"))
    assert order == ["a begins", "a ends", "b begins", "b ends"]


async def test_a_turn_that_ends_early_gives_its_place_back_once() -> None:
    slot = Slot(Mortal(), MODEL)
    async with slot.turn() as turn:
        turn.end()
    async with slot.turn():
        waiting = asyncio.create_task(die(slot))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
    with pytest.raises(EngineDied):
        await waiting


def test_a_replica_removes_what_one_before_it_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = left_behind(tmp_path)
    Slot(Mortal(), MODEL)
    assert not folder.exists()


async def test_a_turn_tells_its_time_and_its_gpus() -> None:
    async with Slot(Mortal(), VideoSettings(gpus=2)).turn() as turn:
        assert turn.timing(turn.taken_at - 3).engine_s == 0
        async with turn.work():
            await asyncio.sleep(0.01)
        timing = turn.timing(turn.taken_at - 3)
        assert (timing.queue_s, timing.gpu_s) == (pytest.approx(3), 2 * timing.engine_s)
        assert timing.engine_s >= 0.01
        # a caller's clock that is ahead of ours
        assert turn.timing(turn.taken_at + 3).queue_s == 0


async def test_only_the_replica_that_ran_it_records_a_generation(tmp_path: Path) -> None:
    store, task = LocalStore(tmp_path), make_task(traceparent="00-1-2-01")
    ledger = Ledger(store, LedgerSettings())
    with pytest.raises(ReplicaLeaving), generation("video", task, ledger):
        raise ReplicaLeaving("gone")
    assert logs.current_traceparent.get() == task.traceparent, "the lines that it logged name its trace"
    await ledger.flush()
    assert await store.list("ledger") == []
    with pytest.raises(EngineDied), generation("video", task, ledger):
        raise EngineDied("gone")
    await ledger.close()
    assert len(await store.list("ledger")) == 1


async def test_the_time_limit_is_told_from_other_time_outs() -> None:
    async with Slot(Mortal(), MODEL).turn() as turn:
        with pytest.raises(TimeoutError, match="of the engine's own"):
            async with turn.work():
                raise TimeoutError("of the engine's own")
        with pytest.raises(TimedOut, match=r"0\.1 s"):
            async with turn.work():
                await asyncio.sleep(5)


async def test_what_serve_wraps_is_closed_by_its_destructor() -> None:
    class Closing:
        closed = False

        async def close(self) -> None:
            type(self).closed = True

    class Held(Served, Closing): ...

    closing = Held().__del__()
    assert closing is not None
    await closing
    assert Held.closed
