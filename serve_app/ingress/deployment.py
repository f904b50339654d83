"""The ingress as a Ray Serve deployment: wires the HTTP application to handles, the store and the jobs."""

import time
from collections.abc import Mapping

from starlette.types import ASGIApp

from serve_app import telemetry
from serve_app.autoscaling import report
from serve_app.handles import Handle, ModelHandle
from serve_app.ingress.asgi import create_http_app
from serve_app.ingress.readiness import ServeReadiness
from serve_app.ingress.services import AnyServed, Services
from serve_app.jobs.store import JobStore
from serve_app.settings import Settings
from serve_app.storage import open_store
from serve_app.storage.base import check_store
from serve_app.telemetry import metrics


class Ingress:
    """One replica; `handles` by the names of the models. `sweeper` is held only to be part of the app."""

    def __init__(self, settings: Settings, handles: Mapping[str, Handle], sweeper: Handle) -> None:
        del sweeper
        telemetry.setup("ingress", settings.telemetry)
        store = open_store(settings)
        self._probed = False
        models = [AnyServed(name, model, ModelHandle(handles[name])) for name, model in settings.served.items()]
        least = {name: model.replicas.min for name, model in settings.served.items()}
        self._services = Services(
            settings=settings,
            store=store,
            jobs=JobStore(store, settings),
            models={model.id: model for model in models},
            readiness=ServeReadiness(handles, least),
            started_at=time.time(),
        )

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return create_http_app(self._services, behind_serve=True)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """The work waiting here for each model. Serve collects it for the autoscaling policy."""
        models = self._services.models.values()
        demands = {model.name: model.load.demand() for model in models}
        for model in models:
            under_way_s = demands[model.name].replica_s
            metrics.set_gauge("work_under_way_seconds", under_way_s, kind=model.settings.kind, model=model.id)
        return report(demands)

    async def drain(self) -> int:
        """Refuses new work from now on. Returns the number of requests still running."""
        gate = self._services.gate
        gate.shut = True
        return gate.inside

    async def check_health(self) -> None:
        """The first call raises if jobs cannot be stored. Later calls only show that the event loop answers."""
        settings = self._services.settings
        if not self._probed and any(model.kind != "text" for model in settings.served.values()):
            await check_store(self._services.store, settings.media.root)
        self._probed = True
