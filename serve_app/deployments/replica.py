"""What a deployment learns from and gives to the Serve replica around it, at the end of its life.

Serve tells no deployment that it is being stopped before its requests have ended, and a video may take longer than
Serve waits. The replica's own object knows; it is read here and nowhere else (Ray is pinned; tried with 2.60.0).
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar, cast


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


def grace_s() -> float | None:
    """How long Serve waits for requests before it kills this replica; None while it is not being stopped."""
    worker: Any = sys.modules.get("ray._private.worker")
    if worker is None:
        return None
    for actor in worker.global_worker.actors.values():
        replica = getattr(actor, "_replica_impl", None)
        if replica is not None and replica._shutting_down:
            return float(replica._deployment_config.graceful_shutdown_timeout_s)
    return None
