"""The end of a replica's life: the destructor that Serve awaits, and how one learns that the application ends.

Before the destructor Serve waits for the requests that the replica has taken, as long as `graceful_shutdown_timeout_s`
in `serve_app/app.py` says: long enough for all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Protocol, TypeVar, cast

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus

logger = logging.getLogger(__name__)

ASK_EVERY_S = 1.0


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


async def application_ends() -> None:
    """Returns when Serve has begun to delete the application around this replica; outside Serve, never.

    Serve tells a replica nothing before its requests have ended, and takes no call for one that is busy: so we ask.
    """
    try:
        name = serve.get_replica_context().app_name
    except RayServeException:
        await asyncio.Event().wait()
        return
    while True:
        try:
            application = (await asyncio.to_thread(serve.status)).applications.get(name)
        except (RayError, RayServeException) as error:
            logger.warning("Serve does not say how the application stands: %s", error)
        else:
            if application is not None and application.status == ApplicationStatus.DELETING:
                return
        await asyncio.sleep(ASK_EVERY_S)
