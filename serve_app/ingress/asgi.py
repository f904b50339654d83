"""The HTTP application: every route, behind what a request passes first (host and page, API key, quotas, the memory for
bodies and the gate) and inside the envelope. Runs with Ray and without.
"""

from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager

from starlette.datastructures import Headers
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.ingress.auth import Keys, caller_of
from serve_app.ingress.body import Budget, Share
from serve_app.ingress.endpoints import Endpoint, routes_of
from serve_app.ingress.middleware import Envelope
from serve_app.ingress.origins import Origins
from serve_app.ingress.quotas import Quotas
from serve_app.ingress.routes import health, images, media, models, pages, text, videos
from serve_app.ingress.services import PUBLIC, Services


def create_http_app(services: Services, *, behind_serve: bool = False) -> ASGIApp:
    """The ASGI application over `services`; `behind_serve` where Ray Serve's proxy stands in front of it."""

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncGenerator[None]:
        yield
        for close in services.closing:
            await close()

    access = services.settings.access
    keys = Keys.load(access)
    origins = Origins(access, trusts_keys=keys is not None)
    endpoints = endpoints_of(services)
    routes = [*videos.dead_ends(), *routes_of(endpoints), *pages.routes(services, endpoints)]
    # a path with an extra slash is a 404, not a redirect
    app = guard(Router(routes, redirect_slashes=False, lifespan=lifespan), services, keys, origins)
    templates = {route.endpoint: route.path for route in routes}
    return Envelope(app, origins, templates=templates, adds_request_id=not behind_serve)


def endpoints_of(services: Services) -> list[Endpoint]:
    """The whole API. What is not in it are the pages for people, and /openapi.json."""
    modules = (text, images, videos, models, health, media)
    return [endpoint for module in modules for endpoint in module.endpoints(services)]


def guard(app: ASGIApp, services: Services, keys: Keys | None, origins: Origins) -> ASGIApp:
    """Sets `caller` and `bodies` in the request's state, and holds its places until the last byte of its answer.

    Raises what the envelope around it turns into an answer. It also answers preflights, which bring no key.
    """
    quotas = Quotas(services.settings.access)
    budget = Budget(services.settings.limits.bodies_bytes)

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        method, headers, state = scope["method"], Headers(scope=scope), scope["state"]
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        origins.check(method, path, headers)
        if (preflight := origins.preflight(method, headers)) is not None:
            await preflight(scope, receive, send)
            return
        state["caller"] = caller_of(keys, path, headers, scope["query_string"])
        with ExitStack() as held:
            # requests without a key reach only open paths and signed URLs; counted together, one client could use up
            # the quota of all
            if state["caller"] != PUBLIC:
                held.enter_context(quotas.admit(state["caller"].owner))
            state["bodies"] = Share(budget)
            held.callback(state["bodies"].give_back)
            if method == "POST" and not path.endswith("/cancel"):
                held.enter_context(services.gate.passed())
            await app(scope, receive, send)

    return guarded
