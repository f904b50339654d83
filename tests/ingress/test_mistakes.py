"""A mistake of ours: what the caller hears of it, and how it is found in the log."""

from __future__ import annotations

import json
import logging
from typing import Any

from serve_app.telemetry.logs import JSONFormatter
from tests.ingress.conftest import Serving, with_client
from tests.ingress.endpoints import CHAT, HELLO, error_of


async def test_a_mistake_of_ours_is_500_without_internals(serving: Serving) -> None:
    class Broken:
        async def describe(self) -> Any:
            raise NotImplementedError

        async def generate(self, task: Any) -> Any:
            raise RuntimeError(f"secret of {task.id}")

        def stream(self, task: Any) -> Any:
            raise RuntimeError("secret")

    def broken(services: Any) -> Any:
        return with_client(services, "text", Broken())

    with serving(broken) as running:
        async with running.client() as client:
            answer = await client.post(CHAT, json=HELLO, headers={"x-request-id": "find-me"})
            error = error_of(answer, 500)
            assert "secret" not in answer.text
            assert "find-me" in error["message"]
            error_of(await client.post(CHAT, json=HELLO | {"stream": True}), 500)


async def test_a_log_line_of_a_request_names_its_trace(serving: Serving) -> None:
    lines: list[dict[str, Any]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(self.format(record)))

    kept, logger = Kept(), logging.getLogger("serve_app")
    kept.setFormatter(JSONFormatter())
    logger.addHandler(kept)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    try:
        with serving(lambda own: with_client(own, "text", object())) as running:
            async with running.client() as client:
                headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01", "x-request-id": "find-me"}
                assert (await client.post(CHAT, json=HELLO, headers=headers)).status_code == 500
    finally:
        logger.removeHandler(kept)
    assert (trace_id, "find-me") in [(line.get("trace_id"), line.get("request_id")) for line in lines]
