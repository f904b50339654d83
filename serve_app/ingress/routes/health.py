"""GET /health (this process lives), /ready (requests will be served) and /metrics."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serve_app.errors import Unavailable
from serve_app.ingress.answers import json_answer
from serve_app.ingress.services import Services
from serve_app.telemetry import METRICS_CONTENT_TYPE, render_metrics

RETRY_S = 1.0


def routes(services: Services) -> list[BaseRoute]:
    async def health(request: Request) -> Response:
        del request
        return json_answer({"status": "ok", "instance": services.settings.instance})

    async def ready(request: Request) -> Response:
        del request
        services.gate.check()
        known = await services.readiness()
        waiting = [kind for kind, is_ready in known.items() if not is_ready]
        if waiting:
            raise Unavailable(f"Not ready yet: {', '.join(waiting)}.", retry_after_s=RETRY_S)
        return json_answer({"status": "ready", "models": dict.fromkeys(services.settings.kinds(), "ready")})

    async def metrics(request: Request) -> Response:
        del request
        return Response(await asyncio.to_thread(render_metrics), headers={"content-type": METRICS_CONTENT_TYPE})

    return [
        Route("/health", health, methods=["GET"]),
        Route("/ready", ready, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]
