"""What every request passes before its route: host and page, API key, quotas, the memory for bodies and the gate."""

from __future__ import annotations

from contextlib import ExitStack

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.ingress.auth import Keys, caller_of
from serve_app.ingress.body import Budget, Share
from serve_app.ingress.origins import Origins
from serve_app.ingress.quotas import Quotas
from serve_app.ingress.services import PUBLIC, Services


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
        state["caller"] = caller_of(keys, path, scope)
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
