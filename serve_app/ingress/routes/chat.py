"""POST /v1/chat/completions."""

from __future__ import annotations

from serve_app.ingress.endpoints import EVENTS, JSON, Endpoint
from serve_app.ingress.routes.text import text_handler
from serve_app.ingress.services import Services
from serve_app.protocol.chat import ChatCompletion, ChatRequest


def endpoints(services: Services) -> list[Endpoint]:
    return [
        Endpoint(
            "POST",
            "/v1/chat/completions",
            text_handler(services, "chatcmpl", ChatRequest),
            "A chat completion, whole or block by block",
            tag="Text",
            body=ChatRequest,
            example={"messages": [{"role": "user", "content": "Hello! How are you?"}]},
            answers={JSON: ChatCompletion, EVENTS: None},
        )
    ]
