"""The metrics, and the calls by which ingress and deployments count, with a metric's name and its labels.

They go through `ray.serve.metrics`, which adds deployment, replica and application labels; the metrics agent of each
node exports them for Prometheus as `ray_diffusion_serve_...`. Without a Ray runtime every call is harmless. What is
summed has a counter of its own, because the agent guesses a histogram's `_sum` from its buckets (tried, Ray 2.60).
"""

import sys
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from serve_app.tasks import Kind, Timing

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
    add("requests", route=route, method=method, status=str(status))
    observe("request_duration_seconds", seconds, route=route)
    if code is not None:
        add("errors", route=route, code=code)


def observe_generation(kind: Kind, model: str, timing: Timing, outcome: str = "completed", **amounts: int) -> None:
    """One generation ended: completed, failed or cancelled. `amounts` are what it made, by the names of counters."""
    of = {"kind": kind, "model": model}
    add("generations", outcome=outcome, **of)
    observe("queue_seconds", timing.queue_s, **of)
    observe("engine_seconds", timing.engine_s, **of)
    add("queued_seconds", timing.queue_s, **of)
    add("engine_busy_seconds", timing.engine_s, **of)
    add("encode_seconds", timing.encode_s, **of)
    add("gpu_seconds", timing.gpu_s, **of)
    for name, amount in amounts.items():
        add(name, amount, **of)
    steps, tokens = amounts.get("denoising_steps"), amounts.get("completion_tokens")
    if steps and tokens:
        observe("tokens_per_step", tokens / steps, **of)


def add(name: str, value: float = 1, /, **labels: str) -> None:
    """Adds to a counter."""
    if value > 0:  # Ray refuses to add nothing
        _record("inc", name, value, labels)


def observe(name: str, value: float, /, **labels: str) -> None:
    """Counts a value in its bucket of a histogram."""
    _record("observe", name, value, labels)


def set_gauge(name: str, value: float, /, **labels: str) -> None:
    """Tells what a gauge stands at."""
    _record("set", name, value, labels)


def _record(method: Literal["inc", "set", "observe"], name: str, value: float, labels: dict[str, str]) -> None:
    if "ray.serve" in sys.modules:  # a process that never imported it is no replica, and should not take seconds now
        getattr(_instrument(name), method)(value, tags=labels)


@cache
def _instrument(name: str) -> Any:
    # imported and made at the first use: importing Ray takes seconds, and the labels of a replica are read when a
    # metric is made, so it has to be made inside the replica
    from ray.serve import metrics

    metric = METRICS[name]
    buckets: dict[str, Any] = {"boundaries": list(metric.buckets)} if metric.buckets else {}
    return getattr(metrics, metric.type.capitalize())(PREFIX + name, metric.help, tag_keys=metric.labels, **buckets)
