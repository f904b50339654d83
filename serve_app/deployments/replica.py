"""A replica's life: loading its model, the destructor that Serve awaits, noticing the end of the application, and
leaving after the engine died.

Before the destructor, Serve waits for the replica's requests for `graceful_shutdown_timeout_s` (`serve_app/app.py`).
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus

from serve_app import demo, telemetry
from serve_app.deployments.generation import Slot
from serve_app.engines.base import Engine
from serve_app.engines.load import load
from serve_app.environment import keep_compiled
from serve_app.ledger import Ledger
from serve_app.model_settings import AnyModel, DiffusionSettings, TextSettings
from serve_app.settings import Settings
from serve_app.storage import open_store
from serve_app.tasks import Kind, ModelCard
from serve_app.threads import Pool

logger = logging.getLogger(__name__)

ASK_EVERY_S = 1.0
GOODBYE_S = 2.0
"""Time to answer requests of the dead engine, and to encode and store what it made before."""
CLOSE_S = 10.0
_CONTROLLER = Pool("controller", 1)

E = TypeVar("E", bound=Engine)


class ModelDeployment(Generic[E]):
    """What replicas of text, image and video models share. One replica has one engine, of the model `name`."""

    kind: ClassVar[Kind]

    def __init__(self, settings: Settings, name: str = "") -> None:
        """`name` is by default the kind's."""
        self._settings = settings
        self._name = name or self.kind
        telemetry.setup(self._name, settings.telemetry)
        self._store = open_store(settings)  # before the engine, which may take minutes: a wrong store fails at once
        self._ledger = Ledger(self._store, settings.ledger)
        keep_compiled(Path(settings.home))
        model = _on_disk(settings.served[self._name])
        engine: E = load(model)
        # SGLang batches texts on its own; all else runs one call at a time
        batches = engine.card.engine == "sglang"
        width = model.max_running_requests if batches and isinstance(model, TextSettings) else 1
        self._slot: Slot[E] = Slot(engine, model, width=width, probe=self._probe, on_death=partial(leave, self.close))

    async def describe(self) -> ModelCard:
        return self._slot.engine.card

    async def check_health(self) -> None:
        await self._slot.check_health()

    async def close(self) -> None:
        """Writes the ledger and ends the engine."""
        await self._ledger.close()
        self._slot.close()

    async def _probe(self) -> None:
        """Raises errors that would otherwise fail every request after its generation."""


def _on_disk(model: AnyModel) -> AnyModel:
    """`model` with demo names replaced by their files."""
    changes: dict[str, Any] = {}
    if demo.is_demo(model.model):
        changes |= {"model": str(demo.find(model.model)), "served_name": model.id}
    if isinstance(model, DiffusionSettings):
        changes["adapters"] = {
            name: adapter.model_copy(update={"path": demo.find_file(adapter.path)})
            for name, adapter in model.adapters.items()
        }
    return model.model_copy(update=changes)


class Served:
    """A base class to put before a deployment's class: it adds the destructor that Serve awaits at the end of a drain.

    The deployment's class has none, because outside Serve nobody would await it.
    """

    close: Callable[[], Awaitable[None]]
    _is_open = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_open = True

    def __del__(self) -> Awaitable[None] | None:
        # Serve also calls and awaits it if the constructor failed. Then there is nothing to close,
        # and its error must not hide the constructor's. Python calls it again when the object is freed.
        if not self._is_open:
            return None
        self._is_open = False
        return self.close()


async def leave(close: Callable[[], Awaitable[None]]) -> None:
    """Ends this process after its engine died. Outside Serve it does nothing.

    Serve would ask three times, 5 s apart, before it replaced the replica, which meanwhile looks idle and so draws the
    requests to itself that it can only turn away. An actor that is gone is replaced at the next look.
    """
    try:
        replica = serve.get_replica_context().replica_id
    except RayServeException:
        return
    logger.error("the engine of %s died: its process ends, and Serve starts another replica", replica)
    await asyncio.sleep(GOODBYE_S)
    try:
        async with asyncio.timeout(CLOSE_S):
            await close()
    except Exception:
        logger.exception("%s could not be closed", replica)
    logging.shutdown()
    os._exit(1)


async def application_ends() -> None:
    """Returns when Serve has begun to delete the application. Outside Serve it never returns.

    Serve tells a replica nothing before its requests have ended, and takes no call for one that is busy: so we ask.
    """
    try:
        name = serve.get_replica_context().app_name
    except RayServeException:
        await asyncio.Event().wait()
        return
    while True:
        try:
            application = (await _CONTROLLER.run(serve.status)).applications.get(name)
        except (RayError, RayServeException) as error:
            logger.warning("Serve does not say how the application stands: %s", error)
        else:
            if application is not None and application.status == ApplicationStatus.DELETING:
                return
        await asyncio.sleep(ASK_EVERY_S)
