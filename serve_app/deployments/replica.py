"""Gives a deployment class the destructor that Serve awaits when it stops a replica.

Serve waits for the requests that a replica has taken before that, as long as `graceful_shutdown_timeout_s` in
`serve_app/app.py` says: long enough for all of them.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, TypeVar, cast


class Closable(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


def served(cls: type[C]) -> type[C]:
    """`cls` with the destructor that Serve awaits at the end of a drain: it calls `close`.

    The plain class has none, because outside Serve no one would await it.
    """
    closed: set[int] = set()

    def close_once(self: Closable) -> Awaitable[None] | None:
        # Serve awaits what its own call gives; Python calls it again, to no purpose, when the object goes
        if id(self) in closed:
            closed.remove(id(self))
            return None
        closed.add(id(self))
        return self.close()

    members = {"__del__": close_once, "__module__": cls.__module__, "__doc__": cls.__doc__}
    return cast("type[C]", type(cls.__name__, (cls,), members))
