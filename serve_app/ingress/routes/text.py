"""What POST /v1/chat/completions and /v1/completions share: everything but the wire format."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import ASGIApp

from serve_app.ingress.answers import json_answer
from serve_app.ingress.body import read_request
from serve_app.ingress.completing import Chunks, Named, complete, events_of, run, stream, together
from serve_app.ingress.endpoints import Handler
from serve_app.ingress.idempotency import key_of
from serve_app.ingress.services import ServedText, Services
from serve_app.ingress.streaming import EventStream
from serve_app.protocol.chat import ChatRequest
from serve_app.protocol.completions import CompletionRequest
from serve_app.tasks import TextResult

R = TypeVar("R", ChatRequest, CompletionRequest)


def text_handler(
    services: Services,
    prefix: str,
    request_model: type[R],
    *,
    chunks: Callable[[R, Named], Chunks],
    answer: Callable[[R, Sequence[TextResult], Named], Any],
) -> Handler:
    """The handler of a text endpoint, whose ids begin with `prefix`."""
    settings = services.settings

    async def create(request: Request) -> ASGIApp:
        submitted_at = time.time()
        asked, _ = await read_request(request, request_model, settings.limits)
        model = services.choose(ServedText, asked.model)
        id = f"{prefix}-{uuid.uuid4().hex}"
        tasks = asked.to_tasks(
            model.settings,
            id=id,
            caller=request.state.caller.owner,
            submitted_at=submitted_at,
            traceparent=request.state.traceparent,
        )
        hints = asked.ignored_hints()
        make = partial(complete, model.client, model.load, tasks)
        once = partial(services.once.result, request, asked, {}, list[TextResult], id, make)

        def name(id: str, created_at: float) -> Named:
            return Named(id=id, created=int(created_at), model=model.id, hints=hints)

        async def events() -> AsyncGenerator[bytes, None]:
            if key_of(request) is None:
                named, texts = name(id, time.time()), run(model.client, model.load, tasks)
            else:
                made = await once()
                named, texts = name(made.id, made.created_at), events_of(made.result)
            async with aclosing(stream(texts, chunks(asked, named), include_usage=asked.include_usage)) as sent:
                async for data in sent:
                    yield data

        if asked.stream:
            return EventStream(events())
        made = await once()
        return json_answer(answer(asked, made.result, name(made.id, made.created_at)), timing=together(made.result))

    return create
