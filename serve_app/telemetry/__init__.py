"""Metrics, traces and logs for operators. None of it knows an HTTP framework or sees a prompt."""

from typing import Literal

from serve_app.model_settings import Strict
from serve_app.telemetry import logs, tracing


class TelemetrySettings(Strict):
    """Logs and traces of this application; Serve's own log is `logging_config` of the file."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    otlp_endpoint: str | None = None
    """http://host:4318 turns OpenTelemetry spans on"""


def setup(component: str, settings: TelemetrySettings) -> None:
    """Sets up the logs and, with an OTLP endpoint, the spans of this process; safe to repeat.

    `component` names the process in traces: ingress, sweeper or the name of a model.
    """
    logs.set_up(settings.log_level, settings.log_format)
    if settings.otlp_endpoint:
        tracing.start(settings.otlp_endpoint, component)
