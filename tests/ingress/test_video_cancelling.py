"""Videos that are cancelled or deleted, while they wait, while they run and when they are done."""

from __future__ import annotations

import asyncio

import httpx

from tests.ingress.conftest import Held, Running
from tests.ingress.videos import BODY, ended, events_of, newest_id, submit


async def test_a_queued_job_is_cancelled_at_once(held: tuple[Held, Running]) -> None:
    replica, running = held
    async with running.client() as client:
        video = await submit(client)
        waiting = asyncio.create_task(client.post("/v1/videos/sync", json=BODY))
        answer = await client.post(f"/v1/videos/{video['id']}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "failed")
        assert answer.json()["error"]["code"] == "cancelled"
        async with asyncio.timeout(10):
            while (newest := await newest_id(client)) == video["id"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await client.post(f"/v1/videos/{newest}/cancel")
        # a synchronous caller is told by a true status, though the replica is still busy
        answer = await asyncio.wait_for(waiting, 10)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "cancelled")
        assert newest in answer.json()["error"]["message"]
        replica.release()
        assert (await client.get(f"/v1/videos/{video['id']}/content")).status_code == 404


async def test_a_running_job_is_cancelled_and_a_finished_one_stays(client: httpx.AsyncClient) -> None:
    video = await submit(client, size="256x256", **{"nvext[num_inference_steps]": "100", "nvext[num_frames]": "33"})
    async with asyncio.timeout(60):
        while (await client.get(f"/v1/videos/{video['id']}")).json()["status"] == "queued":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    cancelled = (await client.post(f"/v1/videos/{video['id']}/cancel")).json()
    assert (cancelled["status"], cancelled["error"]["code"]) == ("failed", "cancelled")
    # the replica is free again long before its 100 steps would have ended
    done = await ended(client, await submit(client))
    again = (await client.post(f"/v1/videos/{done['id']}/cancel")).json()
    assert (again["status"], again["error"]) == ("completed", None)


async def test_deleting_what_waits_or_runs_cancels_it(held: tuple[Held, Running]) -> None:
    replica, running = held
    async with running.client() as client:
        video = await submit(client)
        waiting = asyncio.create_task(client.get(f"/v1/videos/{video['id']}/events"))
        await asyncio.sleep(0.2)
        assert (await client.delete(f"/v1/videos/{video['id']}")).json()["deleted"]
        # the stream had begun: its end is an error event
        name, last = events_of((await asyncio.wait_for(waiting, 10)).text)[-1]
        assert (name, last["error"]["code"]) == ("error", "video_not_found")
        replica.release()
        assert (await client.get(f"/v1/videos/{video['id']}")).status_code == 404
    async with running.client() as client:
        long = {"nvext[num_inference_steps]": "100", "nvext[num_frames]": "33"}
        video = await submit(client, size="256x256", **long)
        async with asyncio.timeout(60):
            while (await client.get(f"/v1/videos/{video['id']}")).json()["status"] == "queued":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await client.delete(f"/v1/videos/{video['id']}")
        assert (await ended(client, await submit(client)))["status"] == "completed"  # the replica is free again
        assert (await client.get(f"/v1/videos/{video['id']}")).status_code == 404


async def test_what_was_cancelled_or_deleted_makes_room_in_the_queue(held: tuple[Held, Running]) -> None:
    replica, running = held
    async with running.client() as client:
        first, second, third = [(await submit(client))["id"] for _ in range(3)]
        assert (await client.post("/v1/videos", json=BODY)).status_code == 429
        assert (await client.post(f"/v1/videos/{first}/cancel")).status_code == 200
        assert (await client.delete(f"/v1/videos/{second}")).status_code == 200
        more = [(await submit(client))["id"] for _ in range(2)]  # though the replica is as busy as before
        assert (await client.post("/v1/videos", json=BODY)).status_code == 429
        replica.release()
        for id in (third, *more):
            video = await ended(client, {"id": id, "status": "queued", "progress": 0})
            assert video["status"] == "completed"


async def test_deleting_removes_record_and_files(client: httpx.AsyncClient) -> None:
    video = await ended(client, await submit(client))
    url = video["data"][0]["url"]
    answer = await client.delete(f"/v1/videos/{video['id']}")
    assert answer.json() == {"id": video["id"], "deleted": True, "object": "video.deleted"}
    for path in (url, f"/v1/videos/{video['id']}", f"/v1/videos/{video['id']}/content"):
        assert (await client.get(path)).status_code == 404
    assert (await client.delete(f"/v1/videos/{video['id']}")).status_code == 404
