"""What hangs holds up only its like."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import Any

import pytest

from tests.ingress.conftest import Serving

SLOW = "slow.example"


async def test_a_slow_name_server_holds_up_no_file(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = threading.Semaphore(0), threading.Event()
    resolve = socket.getaddrinfo

    def slow(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != SLOW:
            return resolve(host, *args, **kwargs)
        asked.release()
        answered.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    body = {"prompt": "a", "size": "64x64", "input_reference": {"image_url": f"https://{SLOW}/a.png"}}
    with serving() as running:
        async with running.client() as client:
            # more than the event loop's own pool has threads
            many = (os.cpu_count() or 1) + 8
            posts = [asyncio.create_task(client.post("/v1/videos", json=body)) for _ in range(many)]
            try:
                await asyncio.to_thread(asked.acquire)
                listed = await asyncio.wait_for(client.get("/v1/videos"), 5)
                assert listed.status_code == 200
                assert not any(post.done() for post in posts)
            finally:
                answered.set()
            assert {answer.status_code for answer in await asyncio.gather(*posts)} == {400}
