"""POST /v1/completions."""

from __future__ import annotations

import time
import uuid
from functools import partial

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from serve_app.ingress.answers import json_answer
from serve_app.ingress.body import read_body
from serve_app.ingress.completing import Named, complete, stream, together
from serve_app.ingress.services import Services
from serve_app.ingress.streaming import EventStream
from serve_app.protocol.common import choose_model, parse
from serve_app.protocol.completions import CompletionChunks, CompletionRequest, from_results
from serve_app.tasks import TextResult


def routes(services: Services) -> list[BaseRoute]:
    settings = services.settings

    async def create(request: Request) -> ASGIApp:
        submitted_at = time.time()
        body = await read_body(request, settings.limits)
        asked = parse(CompletionRequest, body.data)
        model = choose_model(asked.model, services.served("text"))
        client = services.text
        assert client is not None, "a model that is served has a client"
        load = services.loads["text"]
        id = f"cmpl-{uuid.uuid4().hex}"
        tasks = asked.to_tasks(
            settings.text,
            id=id,
            caller=request.state.caller.owner,
            submitted_at=submitted_at,
            traceparent=request.state.traceparent,
        )
        named = Named(id=id, created=int(submitted_at), model=model, hints=asked.ignored_hints())
        prompts = len(asked.prompt)
        if asked.stream:
            chunks = CompletionChunks(**named, include_usage=asked.include_usage, prompts=prompts)
            return EventStream(stream(client, load, tasks, chunks, include_usage=asked.include_usage))
        make = partial(complete, client, load, tasks)
        made = await services.once.result(request, asked, {}, list[TextResult], id, make)
        named = Named(id=made.id, created=int(made.created_at), model=model, hints=asked.ignored_hints())
        return json_answer(from_results(made.result, **named, prompts=prompts), timing=together(made.result))

    return [Route("/v1/completions", create, methods=["POST"])]
