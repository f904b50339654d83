"""GET /health (this process lives), /ready (requests will be served) and /metrics."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from serve_app.errors import Unavailable
from serve_app.ingress.answers import json_answer
from serve_app.ingress.endpoints import JSON, Endpoint, Json
from serve_app.ingress.errors import error_response
from serve_app.ingress.services import AnyServed, ModelState, Services
from serve_app.scrape import CONTENT_TYPE, Metrics

RETRY_S = 1.0
READY = ("ready", "asleep")
IN_PROCESS = ModelState("ready", 1)
"""The state of a model that lives in this process."""


def endpoints(services: Services) -> list[Endpoint]:
    scraped = Metrics()

    async def health(request: Request) -> Response:
        del request
        return json_answer({"status": "ok", "instance": services.settings.instance})

    async def ready(request: Request) -> Response:
        services.gate.check()
        states = await services.readiness() if services.readiness else {}
        models = {model.name: _report(model, states.get(model.name, IN_PROCESS)) for model in services.models.values()}
        if waiting := [name for name, state in states.items() if state.state not in READY]:
            request.state.error_code = Unavailable.code
            error = Unavailable(f"Not ready yet: {', '.join(waiting)}.", retry_after_s=RETRY_S)
            return error_response(error, models=models)
        return json_answer({"status": "ready", "models": models})

    async def metrics(request: Request) -> Response:
        del request
        return Response(await scraped(), headers={"content-type": CONTENT_TYPE})

    get = partial(Endpoint, "GET", tag="Health")
    return [
        get("/health", health, "Whether this process lives", {JSON: Json}),
        get("/ready", ready, "Whether the models that should run are warmed up", {JSON: Json}, errors=(503,)),
        get("/metrics", metrics, "Prometheus metrics", {"text/plain": None}),
    ]


def _report(model: AnyServed, state: ModelState) -> Json:
    """What /ready says of one model. Waiting requests are those of this ingress replica."""
    return {
        "model": model.id,
        "state": state.state,
        "replicas": state.replicas,
        "waiting": model.load.waiting(state.replicas),
        "expected_wait_s": round(model.load.expected_wait_s(state.replicas), 3),
    }
