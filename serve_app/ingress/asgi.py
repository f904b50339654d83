"""The HTTP application: every route, inside quotas, authentication and the envelope. Runs with Ray and without."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp

from serve_app.ingress.auth import AuthMiddleware, Keys
from serve_app.ingress.bodies import BodiesMiddleware, Budget
from serve_app.ingress.endpoints import Endpoint, routes_of
from serve_app.ingress.gate import GateMiddleware
from serve_app.ingress.middleware import Envelope
from serve_app.ingress.origins import OriginHeaders, Origins, OriginsMiddleware
from serve_app.ingress.quotas import QuotaMiddleware, Quotas
from serve_app.ingress.routes import chat, completions, docs, health, images, media, models, page, videos
from serve_app.ingress.services import Services


def create_http_app(services: Services, *, behind_serve: bool = False) -> ASGIApp:
    """The ASGI application over `services`; `behind_serve` where Ray Serve's proxy stands in front of it."""
    access = services.settings.access
    keys = Keys.load(access)
    # a path with an extra slash is a 404, not a redirect
    routes = _routes(services)
    app: ASGIApp = GateMiddleware(Router(routes, redirect_slashes=False, lifespan=_lifespan(services)), services.gate)
    app = BodiesMiddleware(app, Budget(services.settings.limits.bodies_bytes))
    if keys is not None:
        app = QuotaMiddleware(app, Quotas(access))
        app = AuthMiddleware(app, keys)
    origins = Origins(access, trusts_keys=keys is not None)
    app = OriginsMiddleware(app, origins)
    templates = {route.endpoint: route.path for route in routes if isinstance(route, Route)}
    return OriginHeaders(Envelope(app, templates=templates, adds_request_id=not behind_serve), origins)


def _lifespan(services: Services) -> Callable[[object], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def life(_: object) -> AsyncGenerator[None]:
        yield
        for close in services.closing:
            await close()

    return life


def endpoints_of(services: Services) -> list[Endpoint]:
    """The whole API. What is not in it are the pages for people, and /openapi.json."""
    modules = (chat, completions, images, videos, models, health, media)
    return [endpoint for module in modules for endpoint in module.endpoints(services)]


def _routes(services: Services) -> list[BaseRoute]:
    endpoints = endpoints_of(services)
    return [*videos.dead_ends(), *routes_of(endpoints), *docs.routes(services, endpoints), *page.routes(services)]
