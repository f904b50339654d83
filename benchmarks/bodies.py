"""The worst body of each endpoint: the longest stall of /health while it is read, and the memory that it takes.

Each body goes to a fresh ingress process (uvicorn, no engines: the models answer at once), which is asked for its
health all the while. A stall is the longest time that /health took; memory is the peak above what the process held.

    python benchmarks/bodies.py
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import NoReturn

MB = 1_000_000
MOST_STALL_MS = 250.0
MOST_MEMORY_MB = 64
"""Beside three times the body."""
JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=XX"}
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
GENERATIONS, EDITS, VIDEOS = "/v1/images/generations", "/v1/images/edits", "/v1/videos"


@dataclass(frozen=True, slots=True)
class Case:
    endpoint: str
    name: str
    body: Callable[[], bytes]
    headers: dict[str, str]
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Row:
    endpoint: str
    body: str
    body_mb: float
    status: int
    answered_s: float
    stall_ms: float
    memory_mb: float

    @property
    def holds(self) -> bool:
        return self.stall_ms <= MOST_STALL_MS and self.memory_mb <= MOST_MEMORY_MB + 3 * self.body_mb


# --- bodies ---------------------------------------------------------------------------------------------------------


def filled(before: str, item: str, after: str, size: int) -> Callable[[], bytes]:
    """JSON of about `size` bytes: as many items as fit, parted by commas."""
    return lambda: (before + ",".join([item] * (size // (len(item.encode()) + 1))) + after).encode()


def picture(width: int, height: int) -> bytes:
    """A PNG of few bytes and many pixels."""
    import struct

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    rows = zlib.compress(b"\0" * ((width * 4 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def noise(size: int) -> bytes:
    """A PNG of about `size` bytes."""
    from PIL import Image

    side = int((size / 3) ** 0.5)
    file = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(file, "PNG", compress_level=0)
    return file.getvalue()


def data_url(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def form(*parts: tuple[str, bytes]) -> bytes:
    head = "--XX\r\nContent-Disposition: form-data; {}\r\n\r\n"
    return b"".join(head.format(about).encode() + data + b"\r\n" for about, data in parts) + b"--XX--\r\n"


def cases() -> list[Case]:
    """What is largest for each part of the work: values, text, escapes, depth, files, pixels, boundaries, the query."""
    user = '{"role":"user","content":""}'
    few = 49_000  # just below limits.json_values
    chat: dict[str, Callable[[], bytes]] = {
        "messages of 1, 4 MB": filled('{"messages":[', "1", "]}", 4 * MB),
        "messages of 1, 30 MB": filled('{"messages":[', "1", "]}", 30 * MB),
        "500,000 valid messages": filled('{"messages":[', user, "]}", 500_000 * (len(user) + 1)),
        "as many messages as are parsed": filled('{"messages":[', user, "]}", 4_000 * (len(user) + 1)),
        "annotations of 1": filled('{"messages":[' + user + '],"nvext":{"annotations":[', "1", "]}}", few * 2),
        "many names in nvext": lambda: json.dumps({"nvext": {f"n{i}": 1 for i in range(few)}}).encode(),
        "many names in logit_bias": lambda: json.dumps({"logit_bias": {f"n{i}": "x" for i in range(few)}}).encode(),
        "one name again and again": filled("{", '"a":1', "}", few * 6),
        "escapes, then commas": lambda: b'{"prompt":"' + b"\\\\" * (15 * MB) + b"," * 60_000 + b'"}',
        "brackets, 30 MB": lambda: b"[" * (30 * MB),
        "brackets that close nothing": lambda: b'{"a":[' + b"[]," * 50 + b"[]]}" + b"]" * (30 * MB),
        "as much text as is parsed": lambda: ('{"user":"' + "x" * (4 * MB - 200) + "🦊" + '"}').encode(),
        "text, 30 MB": lambda: ('{"user":"' + "x" * (30 * MB) + "🦊" + '"}').encode(),
        "a data URL with escapes": lambda: b'{"user":"data:' + b"\\/" * (15 * MB) + b'"}',
        "long numbers": filled('{"a":[', "9" * 4000, "]}", 30 * MB),
        "a body that is too large": lambda: b"x" * (60 * MB),
    }
    completions: dict[str, Callable[[], bytes]] = {
        "prompts of 1": filled('{"prompt":[', "1", "]}", 30 * MB),
        "stops of 1": filled('{"prompt":"a","stop":[', "1", "]}", few * 2),
        "as many prompts as are parsed": filled('{"prompt":[', '"a"', "]}", few * 4),
    }
    whole, flat = noise(15 * MB), picture(4000, 3750)
    generations = {
        "an image by data URL, 20 MB": lambda: json.dumps({"prompt": "a", "input_reference": data_url(whole)}).encode(),
        "15 million pixels": lambda: json.dumps({"prompt": "a", "input_reference": data_url(flat)}).encode(),
    }
    image = 'name="image"; filename="a.png"'
    forms = {
        "an image and a mask, 30 MB": lambda: form(
            ('name="prompt"', b"a"), (image, whole), (image.replace("image", "mask"), whole)
        ),
        "15 million pixels twice": lambda: form(
            ('name="prompt"', b"a"), (image, flat), (image.replace("image", "mask"), flat)
        ),
        "all but the boundary, 30 MB": lambda: form((image, b"\r\n--XX-" * (30 * MB // 7))),
        "10,000 fields": lambda: form(*((f'name="f{i}"', b"1") for i in range(10_000))),
        "256 fields of text, 4 MB": lambda: form(*((f'name="f{i}"', b"\xf0\x9f\xa6\x8a" * 4000) for i in range(255))),
    }
    video = {
        "a first frame, 15 MB": lambda: form(('name="prompt"', b"a"), ('name="input_reference"; filename="a"', whole))
    }
    return [
        *(Case(CHAT, name, body, JSON) for name, body in chat.items()),
        *(Case(COMPLETIONS, name, body, JSON) for name, body in completions.items()),
        *(Case(GENERATIONS, name, body, JSON) for name, body in generations.items()),
        *(Case(EDITS, name, body, FORM) for name, body in forms.items()),
        *(Case(VIDEOS, name, body, FORM) for name, body in video.items()),
        Case(f"{VIDEOS}?{'a&' * 28_000}", "a query of 56 KB", bytes, {}, "GET"),
    ]


# --- measuring ------------------------------------------------------------------------------------------------------


class Ingress:
    """A fresh ingress in a process of its own."""

    def __init__(self, folder: str) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port: int = sock.getsockname()[1]
        command = [sys.executable, __file__, "--serve", str(self.port), "--folder", folder]
        self._process = subprocess.Popen(command)
        self._status = Path(f"/proc/{self._process.pid}")
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with suppress(OSError):
                self.health()
                return
            time.sleep(0.05)
        raise TimeoutError("the ingress did not start")

    def health(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("GET", "/health")
        connection.getresponse().read()
        return connection

    def memory(self, field: str) -> float:
        """VmRSS or VmHWM (its peak), in MB."""
        lines = (self._status / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / MB for line in lines if line.startswith(field))

    def forget_peak(self) -> None:
        (self._status / "clear_refs").write_text("5")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def measure(case: Case, folder: str) -> Row:
    body, ingress = case.body(), Ingress(folder)
    try:
        small = send(ingress, Case(CHAT, "", lambda: b"{}", JSON), b"{}")
        assert small[0] == 400, small
        connection = ingress.health()
        before = ingress.memory("VmRSS")
        ingress.forget_peak()
        answer: list[tuple[int, float]] = []
        sender = threading.Thread(target=lambda: answer.append(send(ingress, case, body)))
        sender.start()
        stall = 0.0
        while sender.is_alive():
            asked = time.perf_counter()
            connection.request("GET", "/health")
            connection.getresponse().read()
            stall = max(stall, time.perf_counter() - asked)
            time.sleep(0.002)
        status, took = answer[0]
        grown = ingress.memory("VmHWM") - before
    finally:
        ingress.stop()
    endpoint = case.endpoint.split("?")[0]
    return Row(
        endpoint, case.name, round(len(body) / MB, 2), status, round(took, 3), round(stall * 1000, 1), round(grown, 1)
    )


def send(ingress: Ingress, case: Case, body: bytes) -> tuple[int, float]:
    """The status and the seconds until the answer; 0 where the connection was closed before."""
    connection = http.client.HTTPConnection("127.0.0.1", ingress.port, timeout=300)
    began, status = time.perf_counter(), 0
    with suppress(ConnectionError, http.client.RemoteDisconnected):
        connection.request(case.method, case.endpoint, body or None, case.headers)
        answer = connection.getresponse()
        answer.read()
        status = answer.status
    return status, time.perf_counter() - began


def table(rows: list[Row]) -> str:
    head = (
        f"{'endpoint':<24}{'body':<34}{'MB':>7}{'status':>8}{'answered s':>12}{'stall ms':>10}{'memory MB':>11}  holds"
    )
    lines = (
        f"{row.endpoint:<24}{row.body:<34}{row.body_mb:>7.2f}{row.status:>8}{row.answered_s:>12.3f}{row.stall_ms:>10.1f}"
        f"{row.memory_mb:>11.1f}  {'yes' if row.holds else 'NO'}"
        for row in rows
    )
    return "\n".join([head, *lines])


# --- the ingress ----------------------------------------------------------------------------------------------------


def serve(port: int, folder: str) -> None:
    """The application over models that answer at once."""
    import uvicorn

    from serve_app.ingress.asgi import create_http_app
    from serve_app.ingress.services import AnyServed, Services
    from serve_app.jobs.store import JobStore
    from serve_app.settings import Settings, resolve
    from serve_app.storage import open_store
    from serve_app.tasks import ImageResult, ImageTask, Kind, ModelCard, TextEnd, TextResult, TextTask

    settings = resolve(Settings.model_validate({"home": folder}), "demo")
    store = open_store(settings)

    class Instant:
        def __init__(self, kind: Kind) -> None:
            able = frozenset({"edit", "mask", "image_to_video"})
            self._card = ModelCard(model="instant", kind=kind, engine="none", capabilities=able)

        async def describe(self) -> ModelCard:
            return self._card

        async def generate(self, task: TextTask | ImageTask) -> TextResult | ImageResult:
            if isinstance(task, ImageTask):
                return ImageResult(
                    images=(), width=task.width, height=task.height, num_inference_steps=1, guidance_scale=1
                )
            return TextResult(
                text="", end=TextEnd(finish_reason="stop", prompt_tokens=1, completion_tokens=0, algorithm="")
            )

        async def run(self, owner: str, job_id: str) -> None:
            del owner, job_id

        def stream(self, task: object) -> NoReturn:
            raise NotImplementedError

    services = Services(
        settings=settings,
        store=store,
        jobs=JobStore(store, settings),
        models={model.id: AnyServed(name, model, Instant(model.kind)) for name, model in settings.served.items()},
    )
    uvicorn.run(create_http_app(services), host="127.0.0.1", port=port, log_config=None, ws="none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only bodies whose names hold this")
    parser.add_argument("--json", type=Path, help="append the JSON line to this file")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(case, folder) for case in cases() if args.only in case.name]
    print(table(rows))
    line = {
        "benchmark": "bodies",
        "date": date.today().isoformat(),
        "cpus": os.cpu_count(),
        "longest_stall_ms": max(row.stall_ms for row in rows),
        "holds": all(row.holds for row in rows),
        "rows": [asdict(row) for row in rows],
    }
    print(json.dumps(line))
    if args.json:
        with args.json.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
