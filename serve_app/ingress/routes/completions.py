"""To come."""

from __future__ import annotations

from starlette.routing import BaseRoute

from serve_app.ingress.services import Services


def routes(services: Services) -> list[BaseRoute]:
    return []
