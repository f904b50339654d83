"""Metrics, trace context and logs: the small calls that ingress and deployments make, and what an operator then sees.

Metrics go through `ray.serve.metrics`, which adds deployment, replica and application labels; the metrics agent of each
node exports them for Prometheus as `ray_diffusion_serve_...`. Without a Ray runtime every call is harmless. What is
summed has a counter of its own, because the agent guesses a histogram's `_sum` from its buckets (tried, Ray 2.60).
Trace context is W3C's; spans are recorded only after `setup` was given an OTLP endpoint. Knows no HTTP framework and no
task, and never sees a prompt.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from serve_app.errors import AlreadyExists, ObjectNotFound
from serve_app.tasks import Kind, Timing

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

# --- metrics --------------------------------------------------------------------------------------------------------

PREFIX = "diffusion_serve_"
SHORT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LONG_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` lacks PREFIX. Ray's exporter appends `_total` to a counter; a histogram gives `_bucket` and `_count`."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """The name of its family as a Prometheus server sees it."""
        return f"ray_{PREFIX}{self.name}" + ("_total" if self.type == "counter" else "")


_BY_MODEL = ("kind", "model")
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("requests", "counter", "HTTP requests answered.", ("route", "method", "status")),
        Metric("errors", "counter", "HTTP requests answered with an error, by error code.", ("route", "code")),
        Metric("request_duration_seconds", "histogram", "From request to last byte.", ("route",), LONG_S),
        Metric("generations", "counter", "Generations ended.", (*_BY_MODEL, "outcome")),
        Metric("queue_seconds", "histogram", "From acceptance until the engine began.", _BY_MODEL, LONG_S),
        Metric("engine_seconds", "histogram", "Engine time of one generation.", _BY_MODEL, LONG_S),
        Metric("queued_seconds", "counter", "Sum of the seconds that generations queued.", _BY_MODEL),
        Metric("engine_busy_seconds", "counter", "Sum of engine seconds.", _BY_MODEL),
        Metric("encode_seconds", "counter", "Sum of the seconds spent encoding media.", _BY_MODEL),
        Metric("gpu_seconds", "counter", "Engine seconds times GPUs held.", _BY_MODEL),
        Metric("denoising_steps", "counter", "Denoising steps done, where the engine tells.", _BY_MODEL),
        Metric("prompt_tokens", "counter", "Tokens read.", _BY_MODEL),
        Metric("completion_tokens", "counter", "Tokens written.", _BY_MODEL),
        Metric(
            "tokens_per_step", "histogram", "Completion tokens per denoising step, where the engine tells.", _BY_MODEL,
            (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0),
        ),
        Metric("pixels", "counter", "Pixels delivered, over all images and frames.", _BY_MODEL),
        Metric("frames", "counter", "Video frames delivered.", _BY_MODEL),
        Metric("media_bytes", "counter", "Encoded media delivered.", ("kind", "content_type")),
        Metric("storage_seconds", "histogram", "One object store operation.", ("operation", "outcome"), SHORT_S),
        Metric("jobs", "gauge", "Video jobs that one scan of the store found, by state.", ("state",)),
        Metric("retries", "counter", "Work done again: storage calls, job attempts, dispatches.", ("what",)),
        Metric("start_seconds", "histogram", "Loading and warming up of one replica.", _BY_MODEL, LONG_S),
        Metric("work_under_way_seconds", "gauge", "Replica seconds of accepted work.", _BY_MODEL),
    )
}  # fmt: skip


def count_request(route: str, method: str, status: int, seconds: float, code: str | None = None) -> None:
    """One HTTP request answered. `route` is the template (`/v1/videos/{id}`), never the path; `code` of an error."""
    _add("requests", 1, route=route, method=method, status=str(status))
    _observe("request_duration_seconds", seconds, route=route)
    if code is not None:
        _add("errors", 1, route=route, code=code)


def observe_generation(
    kind: Kind,
    model: str,
    timing: Timing,
    outcome: str = "completed",
    *,
    steps: int = 0,
    prompt_tokens: int = 0,
    completion_tokens: int = 0,
    pixels: int = 0,
    frames: int = 0,
) -> None:
    """One generation ended: completed, failed or cancelled. `steps` are denoising steps over all that it made."""
    of = {"kind": kind, "model": model}
    _add("generations", 1, outcome=outcome, **of)
    _observe("queue_seconds", timing.queue_s, **of)
    _observe("engine_seconds", timing.engine_s, **of)
    _add("queued_seconds", timing.queue_s, **of)
    _add("engine_busy_seconds", timing.engine_s, **of)
    _add("encode_seconds", timing.encode_s, **of)
    _add("gpu_seconds", timing.gpu_s, **of)
    _add("denoising_steps", steps, **of)
    _add("prompt_tokens", prompt_tokens, **of)
    _add("completion_tokens", completion_tokens, **of)
    if steps and completion_tokens:
        _observe("tokens_per_step", completion_tokens / steps, **of)
    _add("pixels", pixels, **of)
    _add("frames", frames, **of)


def count_media(kind: Kind, content_type: str, size: int) -> None:
    """Encoded media of `size` bytes was stored or sent."""
    _add("media_bytes", size, kind=kind, content_type=content_type)


@contextmanager
def timed_storage(operation: str) -> Generator[None]:
    """Times one object store operation (put, get, stat, list, delete) and notes whether it failed.

    That there is no such object, or one already, is an answer.
    """
    began = time.perf_counter()
    outcome = "failed"
    try:
        yield
        outcome = "ok"
    except (ObjectNotFound, AlreadyExists):
        outcome = "ok"
        raise
    finally:
        _observe("storage_seconds", time.perf_counter() - began, operation=operation, outcome=outcome)


def set_jobs(states: dict[str, int]) -> None:
    """How many jobs there are in each state, as one scan of the store found them."""
    for state, number in states.items():
        _set("jobs", number, state=state)


def count_retry(what: str) -> None:
    """Something was done again: storage, attempt, dispatch."""
    _add("retries", 1, what=what)


def observe_start(kind: Kind, model: str, seconds: float) -> None:
    """A replica loaded and warmed up its model."""
    _observe("start_seconds", seconds, kind=kind, model=model)


def set_work(kind: Kind, model: str, seconds: float) -> None:
    """The replica seconds of a model's work that this ingress has under way."""
    _set("work_under_way_seconds", seconds, kind=kind, model=model)


def _add(name: str, value: float, **labels: str) -> None:
    if value > 0 and _in_ray():  # Ray refuses to add nothing
        _instrument(name).inc(value, tags=labels)


def _set(name: str, value: float, **labels: str) -> None:
    if _in_ray():
        _instrument(name).set(value, tags=labels)


def _observe(name: str, value: float, **labels: str) -> None:
    if _in_ray():
        _instrument(name).observe(value, tags=labels)


def _in_ray() -> bool:
    """Whether this may be a replica: a process that never imported Ray Serve should not take seconds to do so now."""
    return "ray.serve" in sys.modules


@cache
def _instrument(name: str) -> Any:
    # imported and made at the first use: importing Ray takes seconds, and the labels of a replica are read when a
    # metric is made, so it has to be made inside the replica
    from ray.serve import metrics

    metric = METRICS[name]
    labels: Any = metric.labels  # annotated as a tuple of one by Ray
    if metric.type == "counter":
        return metrics.Counter(PREFIX + name, metric.help, labels)
    if metric.type == "gauge":
        return metrics.Gauge(PREFIX + name, metric.help, labels)
    return metrics.Histogram(PREFIX + name, metric.help, list(metric.buckets), labels)


# --- trace context (https://www.w3.org/TR/trace-context/) ------------------------------------------------------------

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where we are in a trace: 32 and 16 lower-case hex digits, and whether the caller records it."""

    trace_id: str
    span_id: str
    sampled: bool = True

    @property
    def header(self) -> str:
        """As the value of a `traceparent` header."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    @classmethod
    def new(cls) -> TraceContext:
        """The beginning of a trace of our own."""
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
    """The header to hand on: the caller's own where it is valid, else that of a new trace."""
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


# --- logs -----------------------------------------------------------------------------------------------------------

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the running task serves; each log line of ours carries it."""
current_traceparent: ContextVar[str] = ContextVar("current_traceparent", default="")
PRIVATE = frozenset({"prompt", "negative_prompt", "messages", "text", "authorization", "api_key"})
"""Extra fields that a JSON log line leaves out, should someone ever pass them."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request_id, trace_id, then the record's extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request := request_id.get():
            line["request_id"] = request
        if trace := parse_traceparent(current_traceparent.get()):
            line["trace_id"] = trace.trace_id
        extra = vars(record).keys() - _STANDARD - PRIVATE
        line |= {key: getattr(record, key) for key in sorted(extra) if not key.startswith("_")}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """For people: time, level, logger, message and the request id where there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        request = request_id.get()
        return super().format(record) + (f" [{request}]" if request else "")


class _Refusals(logging.Filter):
    """Serve writes a traceback for whatever a replica raises. Where that is an answer to the caller, a line will do."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        status: int = getattr(error, "status", 500)
        if status < 500 or status in (503, 504):
            record.msg, record.args = f"{record.getMessage()} {status} {type(error).__name__}: {error}", ()
            record.exc_info = record.exc_text = None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True


class _OurHandler(logging.StreamHandler[Any]):
    """Marks the handler that `setup` made, so that a second call replaces it."""


def setup(
    component: str,
    *,
    log_level: str = "INFO",
    log_format: Literal["text", "json"] = "text",
    otlp_endpoint: str | None = None,
) -> None:
    """Sets up the loggers below `serve_app` and, with an OTLP endpoint, the spans of this process; safe to repeat.

    What Serve logs of a request that was refused becomes one line.
    `component` names the process in traces: ingress, sweeper or the name of a model. The rest is
    `settings.telemetry.model_dump()`.
    """
    ours = logging.getLogger("serve_app")
    for handler in [handler for handler in ours.handlers if isinstance(handler, _OurHandler)]:
        ours.removeHandler(handler)
    handler = _OurHandler()
    handler.setFormatter(JSONFormatter() if log_format == "json" else TextFormatter())
    ours.addHandler(handler)
    ours.setLevel(log_level)
    # SGLang sets up the root logger, which would print each of our lines again
    ours.propagate = False
    serves = logging.getLogger("ray.serve")
    if not any(isinstance(one, _Refusals) for one in serves.filters):
        serves.addFilter(_Refusals())
    if otlp_endpoint and _process.tracer is None:
        _process.tracer = _tracer(otlp_endpoint, component)
