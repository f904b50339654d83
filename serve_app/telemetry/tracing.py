"""Trace context (https://www.w3.org/TR/trace-context/) and spans by OpenTelemetry, which records none of them unless
`start` has named an OTLP endpoint.
"""

import secrets
from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serve_app.tasks import Kind, Timing

_PROPAGATOR = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("diffusion-serve")


def trace_id_of(traceparent: str) -> str:
    """The id of the trace in a `traceparent` header; empty where the header is absent or not valid."""
    found = trace.get_current_span(_read(traceparent)).get_span_context()
    return trace.format_trace_id(found.trace_id) if found.is_valid else ""


def make_traceparent(incoming: str) -> str:
    """The header to pass on: the caller's if it is valid, else that of a new trace, as the standard asks."""
    new = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    return _written(_read(incoming), default=new)


@contextmanager
def span(name: str, traceparent: str = "", **attributes: str | int | float | bool) -> Generator[str]:
    """Records the block as a span below `traceparent`, and gives the traceparent for what it calls.

    Attributes hold no prompts. An exception marks the span as failed and goes on.
    """
    with _tracer.start_as_current_span(name, context=_read(traceparent), attributes=attributes):
        yield _written(None, default=traceparent)


def trace_generation(
    kind: Kind, traceparent: str, timing: Timing, began_at: float, **attributes: str | int | float | bool
) -> None:
    """Records a generation that has ended as a span below `traceparent`, and its parts, one after the other, below it.

    `began_at` is when it was accepted, in seconds since the epoch.
    """
    above = _read(traceparent)
    whole = _tracer.start_span(f"{kind} generation", above, attributes=attributes, start_time=_ns(began_at))
    below, at = trace.set_span_in_context(whole, above), began_at
    parts = {"queue": timing.queue_s, "engine": timing.engine_s, "encode": timing.encode_s, "storage": timing.storage_s}
    for name, seconds in parts.items():
        if seconds > 0:
            _tracer.start_span(name, below, start_time=_ns(at)).end(_ns(at + seconds))
            at += seconds
    whole.end()


def start(endpoint: str, component: str) -> None:
    """Sends the spans of this process to `endpoint` from now on. OpenTelemetry allows one provider per process."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ImportError("telemetry.otlp_endpoint is set, but the extra `otel` is not installed") from error
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return
    resource = Resource.create({"service.name": "diffusion-serve", "service.component": component})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces")))
    trace.set_tracer_provider(provider)


def _read(traceparent: str) -> Context:
    return _PROPAGATOR.extract({"traceparent": traceparent}, Context())


def _written(context: Context | None, *, default: str) -> str:
    """The header of the span in `context`, by default the current one; `default` where there is none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context)
    return carrier.get("traceparent", default)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
