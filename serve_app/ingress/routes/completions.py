"""POST /v1/completions."""

from __future__ import annotations

from starlette.routing import BaseRoute

from serve_app.ingress.routes.text import text_route
from serve_app.ingress.services import Services
from serve_app.protocol.completions import CompletionChunks, CompletionRequest, from_results


def routes(services: Services) -> list[BaseRoute]:
    return [
        text_route(
            services,
            "/v1/completions",
            "cmpl",
            CompletionRequest,
            chunks=lambda asked, named: CompletionChunks(
                **named, include_usage=asked.include_usage, prompts=len(asked.prompt)
            ),
            answer=lambda asked, results, named: from_results(results, **named, prompts=len(asked.prompt)),
        )
    ]
