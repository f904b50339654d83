"""The load of a model as a caller sees it: a full queue says when to come back, by what requests took."""

from __future__ import annotations

import asyncio

import pytest

from tests.ingress.conftest import Serving
from tests.ingress.endpoints import CHAT, HELLO, error_of
from tests.ingress.images import IMAGES


async def test_a_full_queue_is_429_with_a_time_to_come_back(serving: Serving) -> None:
    with serving(text={"max_queued": 1, "max_running_requests": 1}) as running:
        count = [{"role": "user", "content": "Count from 10 to 30."}]
        body = {"messages": count, "max_tokens": 256}
        async with running.client() as client:
            answers = await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(6)))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [200, 200, 429, 429, 429, 429]
        for answer in answers:
            if answer.status_code == 429:
                assert error_of(answer, 429)["code"] == "queue_full"
                assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_request_took_is_known_to_the_next(serving: Serving, stream: bool) -> None:
    with serving() as running:
        async with running.client() as client:
            for path, body in ((CHAT, HELLO), (IMAGES, {"prompt": "a", "nvext": {"num_inference_steps": 1}})):
                assert (await client.post(path, json=body | {"stream": stream})).status_code == 200
        measured = {model.name: model.load.costs.mean for model in running.services.models.values()}
        assert measured["text"]
        assert measured["image"]
