"""The HTTP application: every route, inside the guards and the envelope. Runs with Ray and without."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp

from serve_app.ingress.auth import Keys
from serve_app.ingress.endpoints import Endpoint, routes_of
from serve_app.ingress.guards import guard
from serve_app.ingress.middleware import Envelope
from serve_app.ingress.origins import Origins
from serve_app.ingress.routes import health, images, media, models, pages, text, videos
from serve_app.ingress.services import Services


def create_http_app(services: Services, *, behind_serve: bool = False) -> ASGIApp:
    """The ASGI application over `services`; `behind_serve` where Ray Serve's proxy stands in front of it."""
    access = services.settings.access
    keys = Keys.load(access)
    origins = Origins(access, trusts_keys=keys is not None)
    routes = _routes(services)
    # a path with an extra slash is a 404, not a redirect
    app: ASGIApp = Router(routes, redirect_slashes=False, lifespan=_lifespan(services))
    templates = {route.endpoint: route.path for route in routes if isinstance(route, Route)}
    app = guard(app, services, keys, origins)
    return Envelope(app, origins, templates=templates, adds_request_id=not behind_serve)


def _lifespan(services: Services) -> Callable[[object], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def life(_: object) -> AsyncGenerator[None]:
        yield
        for close in services.closing:
            await close()

    return life


def endpoints_of(services: Services) -> list[Endpoint]:
    """The whole API. What is not in it are the pages for people, and /openapi.json."""
    modules = (text, images, videos, models, health, media)
    return [endpoint for module in modules for endpoint in module.endpoints(services)]


def _routes(services: Services) -> list[BaseRoute]:
    endpoints = endpoints_of(services)
    return [*videos.dead_ends(), *routes_of(endpoints), *pages.routes(services, endpoints)]
