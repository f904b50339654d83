"""The GPU benchmark times its own application, not one that was left on its port."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.gpu.app import App


class Stranger(BaseHTTPRequestHandler):
    """An application of the run before: live and ready."""

    def do_GET(self) -> None:
        body = b'{"status": "ok", "instance": "an older one"}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def taken_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_another_application_on_the_port_is_no_answer(taken_port: int, tmp_path: Path) -> None:
    # serve run refuses this file, before it starts a Ray
    config = {"http_options": {"port": taken_port}, "proxy_location": "Nowhere", "applications": [{"args": {}}]}
    app = App(config, tmp_path, tmp_path / "log")
    try:
        with pytest.raises(RuntimeError, match="answered by another application"):
            app.wait_ready(30)
    finally:
        app.stop()
