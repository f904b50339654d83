"""POST /v1/completions."""

from __future__ import annotations

from serve_app.ingress.endpoints import EVENTS, JSON, Endpoint
from serve_app.ingress.routes.text import text_handler
from serve_app.ingress.services import Services
from serve_app.protocol.completions import Completion, CompletionRequest


def endpoints(services: Services) -> list[Endpoint]:
    return [
        Endpoint(
            "POST",
            "/v1/completions",
            text_handler(services, "cmpl", CompletionRequest),
            "A completion, whole or block by block",
            tag="Text",
            body=CompletionRequest,
            example={"prompt": "Once upon a time"},
            answers={JSON: Completion, EVENTS: None},
        )
    ]
