"""Trace context (https://www.w3.org/TR/trace-context/) and spans, which are recorded only with an OTLP endpoint."""

from __future__ import annotations

import re
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve_app.tasks import Kind, Timing

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A position in a trace: two ids of 32 and 16 lower-case hex digits, and whether the caller records it."""

    trace_id: str
    span_id: str
    sampled: bool = True

    @property
    def header(self) -> str:
        """As the value of a `traceparent` header."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    @classmethod
    def new(cls) -> TraceContext:
        """Starts a new trace."""
        return cls(secrets.token_hex(16), secrets.token_hex(8))


def parse_traceparent(header: str | None) -> TraceContext | None:
    """The trace context of a header, None where it is absent or not valid (the standard says: then start anew)."""
    match = _TRACEPARENT.fullmatch(header or "")
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, sampled=bool(int(flags, 16) & 1))


def make_traceparent(incoming: str | None) -> str:
    """The header to pass on: the caller's if it is valid, else that of a new trace."""
    return (parse_traceparent(incoming) or TraceContext.new()).header


@contextmanager
def span(name: str, traceparent: str = "", **attributes: str | int | float | bool) -> Generator[str]:
    """Records the block as a span below `traceparent`, and gives the traceparent for what it calls.

    Without an OTLP endpoint nothing is recorded and `traceparent` is handed through as it is. Attributes hold no
    prompts. An exception marks the span as failed and goes on.
    """
    tracer = _process.tracer
    if tracer is None:
        yield traceparent
        return
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    above = propagate.extract({"traceparent": traceparent})
    with tracer.start_as_current_span(name, context=above, attributes=attributes):
        propagate.inject(carrier)
        yield carrier.get("traceparent", traceparent)


def trace_generation(
    kind: Kind, traceparent: str, timing: Timing, began_at: float, **attributes: str | int | float | bool
) -> None:
    """Records a generation that has ended as a span below `traceparent`, and its parts, one after the other, below it.

    `began_at` is when it was accepted, in seconds since the epoch.
    """
    tracer = _process.tracer
    if tracer is None:
        return
    from opentelemetry import propagate, trace

    above = propagate.extract({"traceparent": traceparent})
    whole = tracer.start_span(f"{kind} generation", above, attributes=attributes, start_time=_ns(began_at))
    below, at = trace.set_span_in_context(whole, above), began_at
    parts = {"queue": timing.queue_s, "engine": timing.engine_s, "encode": timing.encode_s, "storage": timing.storage_s}
    for name, seconds in parts.items():
        if seconds > 0:
            tracer.start_span(name, below, start_time=_ns(at)).end(_ns(at + seconds))
            at += seconds
    whole.end()


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


@dataclass
class _Process:
    """The tracer of this process, as logging's root is: OpenTelemetry allows one provider a process."""

    tracer: Tracer | None = None


_process = _Process()


def start(endpoint: str, component: str) -> None:
    """Sends the spans of this process to `endpoint` from now on."""
    if _process.tracer is None:
        _process.tracer = _tracer(endpoint, component)


def _tracer(endpoint: str, component: str) -> Tracer:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ImportError("telemetry.otlp_endpoint is set, but the extra `otel` is not installed") from error
    resource = Resource.create({"service.name": "diffusion-serve", "service.component": component})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces")))
    return provider.get_tracer("diffusion-serve")
