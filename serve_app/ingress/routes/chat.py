"""POST /v1/chat/completions."""

from __future__ import annotations

from serve_app.ingress.endpoints import EVENTS, JSON, Endpoint
from serve_app.ingress.routes.text import text_handler
from serve_app.ingress.services import Services
from serve_app.protocol.chat import ChatChunks, ChatCompletion, ChatRequest, from_results


def endpoints(services: Services) -> list[Endpoint]:
    create = text_handler(
        services,
        "chatcmpl",
        ChatRequest,
        chunks=lambda asked, named: ChatChunks(**named, include_usage=asked.include_usage),
        answer=lambda asked, results, named: from_results(results, **named),
    )
    return [
        Endpoint(
            "POST",
            "/v1/chat/completions",
            create,
            "A chat completion, whole or block by block",
            tag="Text",
            body=ChatRequest,
            example={"messages": [{"role": "user", "content": "Hello! How are you?"}]},
            answers={JSON: ChatCompletion, EVENTS: None},
        )
    ]
