"""POST /v1/chat/completions."""

from __future__ import annotations

from starlette.routing import BaseRoute

from serve_app.ingress.routes.text import text_route
from serve_app.ingress.services import Services
from serve_app.protocol.chat import ChatChunks, ChatRequest, from_results


def routes(services: Services) -> list[BaseRoute]:
    return [
        text_route(
            services,
            "/v1/chat/completions",
            "chatcmpl",
            ChatRequest,
            chunks=lambda asked, named: ChatChunks(**named, include_usage=asked.include_usage),
            answer=lambda asked, results, named: from_results(results, **named),
        )
    ]
