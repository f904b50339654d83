"""Log lines with the ids of the request and the trace that they belong to."""

import json
import logging
import time
from contextvars import ContextVar
from typing import Any, Literal

from serve_app.telemetry.tracing import trace_id_of

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the running task serves; each log line of ours carries it."""
current_traceparent: ContextVar[str] = ContextVar("current_traceparent", default="")
"""The trace that the running task belongs to; each JSON log line of ours carries its id."""
PRIVATE = frozenset({"prompt", "negative_prompt", "messages", "text", "authorization", "api_key"})
"""Extra fields that a JSON log line never shows."""
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
OURS = "diffusion-serve"
"""The name of the handler that `set_up` makes, by which a second call replaces it."""
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
        ids = {"request_id": request_id.get(), "trace_id": trace_id_of(current_traceparent.get())}
        line |= {name: id for name, id in ids.items() if id}
        extra = vars(record).keys() - _STANDARD - PRIVATE
        line |= {key: getattr(record, key) for key in sorted(extra) if not key.startswith("_")}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """For people: the request id, where there is one, behind what the form says."""

    def format(self, record: logging.LogRecord) -> str:
        request = request_id.get()
        return super().format(record) + (f" [{request}]" if request else "")


class _Refusals(logging.Filter):
    """Shortens Serve's tracebacks to one line for errors that are answers to the caller."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        status: int = getattr(error, "status", 500)
        if status < 500 or status in (503, 504):
            record.msg, record.args = f"{record.getMessage()} {status} {type(error).__name__}: {error}", ()
            record.exc_info = record.exc_text = None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True


def set_up(level: str, form: Literal["text", "json"]) -> None:
    """Sets up the loggers below `serve_app`. What Serve logs of a request that was refused becomes one line."""
    ours = logging.getLogger("serve_app")
    for handler in [handler for handler in ours.handlers if handler.name == OURS]:
        ours.removeHandler(handler)
    handler = logging.StreamHandler()
    handler.name = OURS
    handler.setFormatter(JSONFormatter() if form == "json" else TextFormatter(TEXT))
    ours.addHandler(handler)
    ours.setLevel(level)
    # SGLang sets up the root logger, which would print each of our lines again
    ours.propagate = False
    # tells of each broken form, without time or request, what the caller is told
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    serves = logging.getLogger("ray.serve")
    if not any(isinstance(known, _Refusals) for known in serves.filters):
        serves.addFilter(_Refusals())
