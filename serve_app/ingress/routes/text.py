"""POST /v1/chat/completions and /v1/completions, which share everything but the wire format."""

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import fields
from functools import partial

from starlette.requests import Request
from starlette.types import ASGIApp

from serve_app.ingress.answers import json_answer
from serve_app.ingress.body import origin_of, read_request
from serve_app.ingress.endpoints import EVENTS, JSON, Endpoint, Handler
from serve_app.ingress.events import DONE, EventStream, event
from serve_app.ingress.idempotency import key_of
from serve_app.ingress.services import Services
from serve_app.model_settings import TextSettings
from serve_app.protocol import completions as wire
from serve_app.protocol.text import DENOISING, TextAnswers
from serve_app.tasks import TextBlock, TextEnd, TextEvent, TextResult, TextStep, Timing


def endpoints(services: Services) -> list[Endpoint]:
    text = partial(Endpoint, "POST", tag="Text")
    return [
        text(
            "/v1/chat/completions",
            _handler(services, "chatcmpl", wire.ChatRequest, wire.ChatAnswers),
            "A chat completion, whole or block by block",
            body=wire.ChatRequest,
            example={"messages": [{"role": "user", "content": "Hello! How are you?"}]},
            answers={JSON: wire.ChatCompletion, EVENTS: None},
        ),
        text(
            "/v1/completions",
            _handler(services, "cmpl", wire.CompletionRequest, wire.CompletionAnswers),
            "A completion, whole or block by block",
            body=wire.CompletionRequest,
            example={"prompt": "Once upon a time"},
            answers={JSON: wire.Completion, EVENTS: None},
        ),
    ]


def _handler(
    services: Services,
    prefix: str,
    request_model: type[wire.ChatRequest] | type[wire.CompletionRequest],
    answers_model: type[TextAnswers],
) -> Handler:
    """The handler of a text endpoint, whose ids begin with `prefix`."""

    async def create(request: Request) -> ASGIApp:
        asked = await read_request(request, request_model, services.settings.limits)
        model = services.choose(TextSettings, asked.model)
        origin = origin_of(request, f"{prefix}-{uuid.uuid4().hex}")
        tasks = asked.to_tasks(model.settings, **origin)
        make = partial(model.generate, tasks)
        once = partial(services.once.result, request, asked, list[TextResult], origin["id"], make)

        def answers(id: str, created_at: float) -> TextAnswers:
            return answers_model(asked=asked, id=id, created=int(created_at), model=model.id)

        async def events() -> AsyncGenerator[bytes, None]:
            if key_of(request) is None:
                told, parts = answers(origin["id"], origin["submitted_at"]), model.stream(tasks)
            else:
                made = await once()
                told, parts = answers(made.id, made.created_at), events_of(made.result)
            ends: dict[int, TextEnd] = {}
            async with aclosing(parts):
                async for index, part in parts:
                    if isinstance(part, TextEnd):
                        ends[index] = part
                    yield event(told.chunk(index, part), DENOISING if isinstance(part, TextStep) else None)
            for chunk in told.last([ends[index] for index in sorted(ends)]):
                yield event(chunk)
            yield DONE

        if asked.stream:
            return EventStream(events())
        made = await once()
        return json_answer(answers(made.id, made.created_at).whole(made.result), timing=together(made.result))

    return create


async def events_of(results: Sequence[TextResult]) -> AsyncGenerator[tuple[int, TextEvent], None]:
    """The events of finished results: each text as one block."""
    for index, result in enumerate(results):
        if result.text:
            yield index, TextBlock(block=0, text=result.text, tokens=result.end.completion_tokens)
        yield index, result.end


def together(results: Sequence[TextResult]) -> Timing:
    """One timing for completions that ran at the same time: the longest of each part."""
    timings = [result.timing for result in results]
    return Timing(**{part.name: max(getattr(timing, part.name) for timing in timings) for part in fields(Timing)})
