"""Metrics calls without Ray, merged expositions, trace context and log lines."""

from __future__ import annotations

import gzip
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from serve_app import telemetry
from serve_app.errors import InvalidRequest, Unavailable
from serve_app.ingress.forms import parse_form
from serve_app.settings import RequestLimits
from serve_app.telemetry import TelemetrySettings, logs, tracing
from serve_app.telemetry.metrics import METRICS
from serve_app.telemetry.tracing import make_traceparent, trace_id_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADER = f"00-{TRACE}-b7ad6b7169203331-01"


WITHOUT_RAY = """
from serve_app.telemetry import metrics
from serve_app.tasks import Timing

metrics.count_request("/v1/images/generations", "POST", 400, 0.1, code="invalid_value")
timing = Timing(queue_s=0.1, engine_s=1.0, encode_s=0.1, storage_s=0.1, gpu_s=1.0)
metrics.observe_generation("text", "m", timing, denoising_steps=4, prompt_tokens=3, completion_tokens=12)
metrics.observe_generation("video", "m", Timing(), "failed")
metrics.add("media_bytes", 10, kind="image", content_type="image/png")
metrics.add("retries", what="storage")
metrics.observe("start_seconds", 3.0, kind="text", model="m")
metrics.set_gauge("work_under_way_seconds", 0.0, kind="text", model="m")
print("unharmed")
"""


def test_every_call_is_harmless_without_ray() -> None:
    # a process of its own: in this one another test may have had Ray
    ran = subprocess.run([sys.executable, "-c", WITHOUT_RAY], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout == "unharmed\n", ran.stderr


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_named_by_the_rules_of_prometheus(name: str) -> None:
    metric = METRICS[name]
    assert not name.endswith("_total")  # the exporter adds it to counters
    assert not any(word in name for word in ("milli", "_ms", "minutes", "_kb", "_mb"))  # base units
    assert bool(metric.buckets) == (metric.type == "histogram")
    assert list(metric.buckets) == sorted(metric.buckets)
    # labels that Ray Serve adds by itself
    assert not {"deployment", "replica", "application"} & set(metric.labels)


def test_a_valid_traceparent_is_passed_on() -> None:
    assert trace_id_of(HEADER) == TRACE
    assert make_traceparent(HEADER) == HEADER
    assert make_traceparent(HEADER[:-1] + "0") == HEADER[:-1] + "0"  # the caller does not record it


@pytest.mark.parametrize(
    "header",
    [
        "",
        "junk",
        HEADER.upper(),
        HEADER + "-more",
        "ff" + HEADER[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
    ],
)
def test_an_invalid_traceparent_begins_a_new_trace(header: str) -> None:
    assert trace_id_of(header) == ""
    assert trace_id_of(make_traceparent(header)) not in ("", TRACE)


def test_a_later_version_may_say_more() -> None:
    assert make_traceparent("01" + HEADER[2:] + "-more") == HEADER


def test_a_span_hands_the_context_through_while_tracing_is_off() -> None:
    with tracing.span("engine", HEADER, steps=3) as below:
        assert below == HEADER


@pytest.fixture
def ours() -> Iterator[logging.Logger]:
    logger = logging.getLogger("serve_app")
    before = (list(logger.handlers), logger.level)
    yield logger
    logger.handlers[:], level = before
    logger.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_json_lines_carry_request_and_trace_and_no_prompt(
    ours: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.setup("ingress", TelemetrySettings(log_format="json"))
    request = logs.request_id.set("req_1")
    trace = logs.current_traceparent.set(HEADER)
    try:
        private = ("prompt", "negative_prompt", "messages", "text", "authorization", "api_key")
        extra = {"job": "v1", **dict.fromkeys(private, "a secret wish")}
        logging.getLogger("serve_app.jobs").warning("job %s", "v1", extra=extra)
    finally:
        logs.request_id.reset(request)
        logs.current_traceparent.reset(trace)
    [line] = lines(capsys)
    parsed = json.loads(line)
    assert "secret" not in line
    assert (parsed["message"], parsed["level"], parsed["logger"]) == ("job v1", "WARNING", "serve_app.jobs")
    assert (parsed["request_id"], parsed["trace_id"], parsed["job"]) == ("req_1", TRACE, "v1")


def test_a_json_line_tells_the_time_to_the_millisecond_and_nothing_internal(
    ours: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.setup("ingress", TelemetrySettings(log_format="json"))
    about = {"name": "serve_app.jobs", "levelname": "INFO", "levelno": logging.INFO, "msg": "kept", "path": Path("a")}
    # libraries put facts of their own into each record
    ours.handle(logging.makeLogRecord({**about, "created": 1_700_000_000.007, "msecs": 7.0, "_of_a_library": 1}))
    [line] = lines(capsys)
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.007Z", "level": "INFO", "logger": "serve_app.jobs", "message": "kept", "path": "a"
    }  # fmt: skip


def test_a_text_line_carries_its_request(ours: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.setup("ingress", TelemetrySettings())
    request = logs.request_id.set("req_1")
    try:
        ours.warning("within")
    finally:
        logs.request_id.reset(request)
    ours.warning("outside")
    within, outside = lines(capsys)
    assert within.endswith("WARNING serve_app: within [req_1]")
    assert outside.endswith("WARNING serve_app: outside")


def test_exceptions_stay_on_one_line(ours: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.setup("ingress", TelemetrySettings(log_format="json"))
    try:
        raise ValueError("broken")
    except ValueError:
        ours.exception("it broke")
    [line] = lines(capsys)
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_the_parser_of_a_broken_form_writes_no_line_beside_ours(
    ours: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry.setup("ingress", TelemetrySettings(log_format="json"))
    with pytest.raises(InvalidRequest):
        parse_form("multipart/form-data; boundary=XX", b"garbage", RequestLimits())
    assert caplog.messages == []


def test_an_engine_that_sets_up_the_root_logger_repeats_no_line_of_ours(
    ours: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.setup("image", TelemetrySettings())
    root, theirs = logging.getLogger(), logging.StreamHandler()
    root.addHandler(theirs)
    try:
        ours.warning("once")
    finally:
        root.removeHandler(theirs)
    [line] = lines(capsys)
    assert line.endswith("once")


@pytest.mark.parametrize(
    ("error", "shortened"), [(InvalidRequest("too long"), True), (Unavailable("later"), True), (ValueError("x"), False)]
)
def test_what_serve_logs_of_a_refusal_is_one_line(
    error: Exception, shortened: bool, ours: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.setup("text", TelemetrySettings())
    telemetry.setup("text", TelemetrySettings())
    serves, handler = logging.getLogger("ray.serve"), logging.StreamHandler()
    serves.addHandler(handler)
    try:
        raise error
    except type(error):
        serves.exception("Request failed.")
    finally:
        serves.removeHandler(handler)
    first, *rest = lines(capsys)
    assert first.startswith("Request failed.")
    assert (str(error) in first) == shortened
    assert bool(rest) != shortened


def test_setup_twice_writes_each_line_once(ours: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.setup("ingress", TelemetrySettings())
    telemetry.setup("ingress", TelemetrySettings(log_level="WARNING"))
    ours.info("not this")
    ours.warning("this")
    [line] = lines(capsys)
    assert "this" in line


SPANS = """
import sys, time
from serve_app import telemetry
from serve_app.telemetry import tracing
from serve_app.tasks import Timing

telemetry.setup("image", telemetry.TelemetrySettings(otlp_endpoint=sys.argv[1]))
with tracing.span("http", sys.argv[2], method="POST") as below:
    timing = Timing(queue_s=1.0, engine_s=2.0, encode_s=0.5, storage_s=0.25)
    tracing.trace_generation("image", below, timing, time.time() - 3.75, model="m", steps=8)
"""


def test_spans_reach_a_collector_below_the_callers_own() -> None:
    sent: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/otlp/v1/traces":
                sent.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever).start()
        # a process of its own: OpenTelemetry allows one provider a process
        command = [sys.executable, "-c", SPANS, f"http://127.0.0.1:{server.server_port}/otlp/", HEADER]
        try:
            subprocess.run(command, check=True, timeout=120)
        finally:
            server.shutdown()
    requests = [ExportTraceServiceRequest.FromString(body) for body in sent]
    spans = [
        span
        for request in requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert {span.trace_id.hex() for span in spans} == {TRACE}
    parents = {span.name: span.parent_span_id.hex() for span in spans}
    ids = {span.name: span.span_id.hex() for span in spans}
    parts = ("queue", "engine", "encode", "storage")
    assert parents == {
        "http": HEADER.split("-")[2],
        "image generation": ids["http"],
        **dict.fromkeys(parts, ids["image generation"]),
    }
    took = {span.name: (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9 for span in spans}
    assert [took[part] for part in parts] == pytest.approx([1.0, 2.0, 0.5, 0.25], abs=1e-3)
