"""Metrics, traces and logs for operators. None of it knows an HTTP framework or sees a prompt."""

from typing import Literal

from serve_app.telemetry import logs, tracing


def setup(
    component: str,
    *,
    log_level: str = "INFO",
    log_format: Literal["text", "json"] = "text",
    otlp_endpoint: str | None = None,
) -> None:
    """Sets up the logs and, with an OTLP endpoint, the spans of this process; safe to repeat.

    `component` names the process in traces: ingress, sweeper or the name of a model. The rest is
    `settings.telemetry.model_dump()`.
    """
    logs.set_up(log_level, log_format)
    if otlp_endpoint:
        tracing.start(otlp_endpoint, component)
