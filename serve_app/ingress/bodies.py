"""Limits the bytes of request bodies in memory: one budget for all requests of this ingress.

A body counts from its first byte until its answer has been sent, because its files and texts live that long.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(slots=True)
class Budget:
    """`held` bytes are in use now, of at most `most`."""

    most: int
    held: int = 0


@dataclass(slots=True)
class Share:
    """What one request holds of the budget."""

    budget: Budget
    bytes: int = field(default=0, init=False)

    def take(self, size: int) -> bool:
        """Takes `size` more bytes. False if there is no room."""
        if self.budget.held + size > self.budget.most:
            return False
        self.budget.held += size
        self.bytes += size
        return True

    def give_back(self) -> None:
        self.budget.held -= self.bytes
        self.bytes = 0


class BodiesMiddleware:
    """Gives each request a share as `request.state.bodies`, and takes it back when the answer has been sent."""

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
