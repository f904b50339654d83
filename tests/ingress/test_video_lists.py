"""Lists of videos and their pages."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.ingress.conftest import Held, Running, Serving
from tests.ingress.videos import submit


async def test_lists_are_paged_both_ways(serving: Serving, tmp_path: Any) -> None:
    with serving(media={"root": tmp_path.as_uri()}) as running:
        async with running.client() as client:
            assert (await client.get("/v1/videos")).json() == {
                "object": "list",
                "data": [],
                "first_id": None,
                "last_id": None,
                "has_more": False,
            }
            made = [(await submit(client))["id"] for _ in range(3)]
            newest = (await client.get("/v1/videos", params={"limit": 2})).json()
            assert [video["id"] for video in newest["data"]] == made[:0:-1]
            assert (newest["first_id"], newest["last_id"], newest["has_more"]) == (made[2], made[1], True)
            rest = (await client.get("/v1/videos", params={"limit": 2, "after": newest["last_id"]})).json()
            assert ([video["id"] for video in rest["data"]], rest["has_more"]) == (made[:1], False)
            oldest = (await client.get("/v1/videos", params={"order": "asc"})).json()
            assert [video["id"] for video in oldest["data"]] == made
            for id in made:
                await client.delete(f"/v1/videos/{id}")


async def test_a_page_goes_on_after_a_video_that_was_deleted(held: tuple[Held, Running]) -> None:
    replica, running = held
    async with running.client() as client:
        made = [(await submit(client))["id"] for _ in range(3)]
        await client.delete(f"/v1/videos/{made[1]}")
        after = (await client.get("/v1/videos", params={"after": made[1], "limit": 1})).json()
        assert [video["id"] for video in after["data"]] == made[:1]
        before = (await client.get("/v1/videos", params={"after": made[1], "order": "asc"})).json()
        assert ([video["id"] for video in before["data"]], before["has_more"]) == (made[2:], False)
        for id in (made[0], made[2]):
            await client.delete(f"/v1/videos/{id}")
        replica.release()


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=1e1", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=1&limit=2", "limit"),
        ("order=", "order"),
        ("order=DESC", "order"),
        ("after=", "after"),
        ("order=up", "order"),
        ("after=../../etc", "after"),
    ],
)
async def test_bad_pages_are_refused(client: httpx.AsyncClient, query: str, param: str) -> None:
    answer = await client.get(f"/v1/videos?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
