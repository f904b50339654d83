"""POST /v1/completions."""

from __future__ import annotations

from serve_app.ingress.endpoints import EVENTS, JSON, Endpoint
from serve_app.ingress.routes.text import text_handler
from serve_app.ingress.services import Services
from serve_app.protocol.completions import Completion, CompletionChunks, CompletionRequest, from_results


def endpoints(services: Services) -> list[Endpoint]:
    create = text_handler(
        services,
        "cmpl",
        CompletionRequest,
        chunks=lambda asked, named: CompletionChunks(
            **named, include_usage=asked.include_usage, prompts=len(asked.prompt)
        ),
        answer=lambda asked, results, named: from_results(results, **named, prompts=len(asked.prompt)),
    )
    return [
        Endpoint(
            "POST",
            "/v1/completions",
            create,
            "A completion, whole or block by block",
            tag="Text",
            body=CompletionRequest,
            example={"prompt": "Once upon a time"},
            answers={JSON: Completion, EVENTS: None},
        )
    ]
