"""The ingress as a Ray Serve deployment: wires the HTTP application to handles, the store and the jobs."""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.types import ASGIApp

from serve_app import telemetry
from serve_app.autoscaling import Demand, report
from serve_app.ingress.asgi import create_http_app
from serve_app.ingress.handles import Handle, ImageHandle, ServeReadiness, TextHandle, VideoHandle
from serve_app.ingress.services import Services
from serve_app.jobs import JobStore
from serve_app.settings import Settings
from serve_app.storage import LocalStore, open_store
from serve_app.tasks import Kind


class Ingress:
    """One replica; `models` holds the handle of each enabled kind. `sweeper` is held only to be part of the app."""

    def __init__(self, settings: Settings, models: Mapping[Kind, Handle], sweeper: Handle | None = None) -> None:
        del sweeper
        telemetry.setup("ingress", **settings.telemetry.model_dump())
        store = open_store(settings)
        self._services = Services(
            settings=settings,
            store=store,
            jobs=JobStore(store, settings),
            text=TextHandle(models["text"]) if "text" in models else None,
            image=ImageHandle(models["image"]) if "image" in models else None,
            video=VideoHandle(models["video"]) if "video" in models else None,
            signer=store.signer if isinstance(store, LocalStore) else None,
            readiness=ServeReadiness(settings, models),
            started_at=time.time(),
        )

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return create_http_app(self._services, behind_serve=True)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What waits here for each kind; Serve asks for it, and hands it to the autoscaling policy."""
        demands: dict[Kind, Demand] = {kind: load.demand() for kind, load in self._services.loads.items()}
        for kind, demand in demands.items():
            telemetry.set_work(kind, demand.replica_s)
        return report(demands)

    async def drain(self) -> int:
        """Lets no new work in from now on; the number of requests that are still under way."""
        gate = self._services.gate
        gate.shut = True
        return gate.inside

    async def check_health(self) -> None:
        """Nothing to add: a replica whose event loop answers this is able to serve."""
