"""GET /: a page for people, which uses the same API as everybody. Its files lie in `ingress/page/`."""

from __future__ import annotations

from starlette.routing import BaseRoute

from serve_app.ingress.services import Services
from serve_app.ingress.static import page_routes


def routes(services: Services) -> list[BaseRoute]:
    return page_routes("/", "page", services.store) if services.settings.ingress.page else []
