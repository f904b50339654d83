"""How many bytes of bodies this ingress holds: one budget for all requests under way.

A body counts from its first byte to the end of its answer, since its files and texts live as long.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(slots=True)
class Budget:
    """`held`: the bytes that are here now, of at most `most`."""

    most: int
    held: int = 0


@dataclass(slots=True)
class Share:
    """What one request holds of the budget."""

    budget: Budget
    bytes: int = field(default=0, init=False)

    def take(self, size: int) -> bool:
        """Whether there was room for `size` bytes more."""
        if self.budget.held + size > self.budget.most:
            return False
        self.budget.held += size
        self.bytes += size
        return True

    def give_back(self) -> None:
        self.budget.held -= self.bytes
        self.bytes = 0


class BodiesMiddleware:
    """Gives each request its share, as `request.state.bodies`, and takes it back when the answer has gone out."""

    def __init__(self, app: ASGIApp, budget: Budget) -> None:
        self._app = app
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        share = Share(self._budget)
        scope["state"]["bodies"] = share
        try:
            await self._app(scope, receive, send)
        finally:
            share.give_back()
