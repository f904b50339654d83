"""Claims of idempotency keys: of all that ask for a key, one gets it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from serve_app.errors import StorageFailed
from serve_app.jobs.claims import Claim, Claims
from serve_app.jobs.records import new_job_id
from serve_app.jobs.store import JobStore
from serve_app.settings import Settings
from serve_app.storage import open_store
from serve_app.storage.local import LocalStore
from serve_app.tasks import StoredObject
from tests.jobs.conftest import Counting, Create, claim_key, make_task


async def test_the_first_wins(any_settings: Settings) -> None:
    jobs = JobStore(open_store(any_settings), any_settings)
    first, second = make_task(), make_task()
    claim = await claim_key(jobs, "public", "key", "print", first.id)
    assert (claim.fresh, claim.job_id) == (True, first.id)
    again = await claim_key(jobs, "public", "key", "other print", second.id)
    assert (again.fresh, again.job_id, again.fingerprint) == (False, first.id, "print")
    assert (await claim_key(jobs, "someone", "key", "print", second.id)).fresh


async def test_of_many_at_once_one_wins(jobs: JobStore) -> None:
    ids = [new_job_id() for _ in range(20)]
    claims = await asyncio.gather(*(claim_key(jobs, "public", "key", "print", each) for each in ids))
    assert sum(claim.fresh for claim in claims) == 1
    assert len({claim.job_id for claim in claims}) == 1


async def test_a_job_that_failed_is_passed_over_by_one(jobs: JobStore, create: Create) -> None:
    job = await create()
    await claim_key(jobs, "public", "key", "print", job.id)
    await jobs.cancel("public", job.id)
    ids = [new_job_id() for _ in range(10)]
    claims = await asyncio.gather(*(claim_key(jobs, "public", "key", "print", each) for each in ids))
    assert sum(claim.fresh for claim in claims) == 1
    assert {claim.job_id for claim in claims} < set(ids)


async def test_each_failed_try_costs_what_the_one_before_cost(settings: Settings, tmp_path: Path) -> None:
    store = Counting(tmp_path / "counted")
    jobs = JobStore(store, settings)
    cost: list[int] = []
    for _ in range(12):
        store.calls.clear()
        job = make_task()
        claim = await claim_key(jobs, "public", "key", "print", job.id)
        assert claim.fresh
        cost.append(store.calls.total())
        await jobs.create(job, dispatcher="d1")
        await jobs.cancel("public", job.id)
    assert cost[-1] == cost[3]
    # and what came to nothing is given up at the end of the chain
    last = await claim_key(jobs, "public", "key", "print", new_job_id())
    await Claims(jobs).release("public", "key", last)
    assert (await claim_key(jobs, "public", "key", "print", new_job_id())).fresh


async def test_a_released_one_is_free(jobs: JobStore) -> None:
    async def failed(claim: Claim) -> bool:
        return claim.job_id == "a"

    await claim_key(jobs, "public", "key", "print", "a")
    second = await claim_key(jobs, "public", "key", "print", "b", failed=failed)
    assert second.fresh
    await Claims(jobs).release("public", "key", second)
    third = await claim_key(jobs, "public", "key", "print", "c", failed=failed)
    assert (third.fresh, third.job_id) == (True, "c")


class Unnoting(LocalStore):
    """Takes claims, and nothing that replaces what is there."""

    refused = 0

    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        if key.startswith("idempotency/") and not if_absent:
            self.refused += 1
            raise StorageFailed("The store does not answer.")
        return await super().put(key, data, if_absent=if_absent)


async def test_a_claim_holds_though_its_place_could_not_be_noted(settings: Settings, tmp_path: Path) -> None:
    async def failed(claim: Claim) -> bool:
        return claim.job_id != "c"

    store = Unnoting(tmp_path / "unnoting")
    jobs = JobStore(store, settings)
    for job_id in ("a", "b", "c"):
        assert (await claim_key(jobs, "public", "key", "print", job_id, failed=failed)).fresh
    assert store.refused == 2
    assert (await claim_key(jobs, "public", "key", "print", "d", failed=failed)).job_id == "c"
