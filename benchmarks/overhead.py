"""Where the time of a request goes: engine, encoding, storage, and the rest (HTTP time minus these three).

    python benchmarks/overhead.py [--requests 120] [--clients 1 16] [--json results.jsonl]

Starts the demo profile and a bare Ray Serve ingress with one handle hop on the same local Ray, drives both in turns
from one process over HTTP, and prints a table, then one JSON line. The bare ingress answers a text as long as our
answer does, from a replica that returns it at once: what any Ray Serve application pays. `bare 30 ms` is the same
replica computing for 30 ms first, in a thread as our engines do: how much slower the same hops are on processors that
have just done something else. Engines run tiny shapes here, so that the rest is not lost in their noise. The rest
holds all else, also the wait for a free engine: with more clients than engines that is most of it and says nothing
about our own share. `queue`, shown beside it, is the part of the rest from the request's acceptance until the engine
began: that wait, and the hop over the handle. A second table says where the processors' time went: what each kind of
process used for one request, the engine's own seconds among the replica's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

PARTS = ("http", "engine", "encode", "storage", "rest", "queue")
ROLES = ("proxy", "ingress", "replica")
PORT = 18431
BASE = f"http://127.0.0.1:{PORT}"


@serve.deployment(ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=100)
class BareReplica:
    async def work(self, size: int, busy_s: float) -> tuple[str, float]:
        """A text of that size, and the seconds that this replica computed for it."""
        began = time.perf_counter()
        if busy_s:
            await asyncio.to_thread(compute, busy_s)
        return "x" * size, time.perf_counter() - began


@serve.deployment(ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=1000)
class BareIngress:
    """The least that an application on Ray Serve does: parse the JSON, call one handle, answer JSON."""

    def __init__(self, replica: Any) -> None:
        self.replica = replica

    async def __call__(self, request: Request) -> Response:
        body = await request.json()
        text, busy_s = await self.replica.work.remote(body["size"], body["busy_s"])
        return JSONResponse({"text": text}, headers={"server-timing": f"engine;dur={busy_s * 1000:.3f}"})


def compute(seconds: float) -> None:
    """Multiplies matrices for that long."""
    matrix = np.random.default_rng(0).random((64, 64))
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        np.matmul(matrix, matrix)


@dataclass
class Sample:
    """Seconds of one request; `rest` is what neither engine, encoding nor storage explains, waiting included."""

    http: float
    queue: float = 0.0
    engine: float = 0.0
    encode: float = 0.0
    storage: float = 0.0

    @property
    def rest(self) -> float:
        return self.http - self.engine - self.encode - self.storage


@dataclass
class Row:
    """The requests of one work, and the processor seconds that all of them together took of each kind of process."""

    work: str
    clients: int
    samples: list[Sample] = field(default_factory=list[Sample])
    calls: int = 0
    cpu: Counter[str] = field(default_factory=Counter[str])

    def quantile(self, part: str, q: float) -> float:
        values = sorted(float(getattr(sample, part)) for sample in self.samples)
        return values[min(len(values) - 1, round(q * (len(values) - 1)))] * 1000

    def line(self) -> dict[str, Any]:
        return {
            "work": self.work,
            "clients": self.clients,
            "requests": len(self.samples),
            **{f"{part}_p{q}_ms": round(self.quantile(part, q / 100), 2) for part in PARTS for q in (50, 99)},
            "cpu_ms": {role: round(self.cpu_ms(role), 2) for role in ROLES},
        }

    def cpu_ms(self, role: str) -> float:
        return self.cpu[role] / max(1, self.calls) * 1000


Call = Callable[[httpx.AsyncClient], Awaitable[Sample]]


def timed(path: str, body: dict[str, Any]) -> Call:
    """One POST; the answer's `Server-Timing` header says where the server's seconds went."""

    async def call(client: httpx.AsyncClient) -> Sample:
        started = time.perf_counter()
        answer = await client.post(path, json=body)
        took = time.perf_counter() - started
        answer.raise_for_status()
        spent = dict(part.split(";dur=") for part in answer.headers.get("server-timing", "").split(", ") if part)
        return Sample(took, **{name: float(ms) / 1000 for name, ms in spent.items() if name in Sample.__annotations__})

    return call


def works(models: dict[str, str], text_size: int) -> dict[str, Call]:
    image = {"model": models["image"], "prompt": "a fox", "size": "64x64"}
    nvext = {"num_inference_steps": 1}
    return {
        "bare": timed("/bare", {"size": text_size, "busy_s": 0}),
        "bare 30 ms": timed("/bare", {"size": text_size, "busy_s": 0.03}),
        "chat": timed(
            "/v1/chat/completions",
            {"model": models["text"], "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8},
        ),
        "image url": timed("/v1/images/generations", {**image, "nvext": nvext}),
        "image b64_json": timed("/v1/images/generations", {**image, "nvext": nvext, "response_format": "b64_json"}),
        "video": timed(
            "/v1/videos",
            {
                "model": models["video"],
                "prompt": "a fox",
                "size": "64x64",
                "response_format": "url",
                "nvext": {"num_frames": 5, "num_inference_steps": 1},
            },
        ),
    }


async def drive(call: Call, clients: int, requests: int) -> list[Sample]:
    """`requests` calls from `clients` closed-loop clients; the first call of each is not counted."""
    samples: list[Sample] = []
    left = iter(range(requests))

    async def one(client: httpx.AsyncClient) -> None:
        await call(client)
        samples.extend([await call(client) for _ in left])

    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=BASE, timeout=600, limits=limits) as client:
        await asyncio.gather(*(one(client) for _ in range(clients)))
    return samples


async def measure(calls: dict[str, Call], clients: int, requests: int, rounds: int) -> list[Row]:
    """A row for each work. They take turns, so that what else this machine does meanwhile falls on all alike."""
    rows = {name: Row(name, clients) for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            count = requests // rounds
            before, row = cpu_seconds(), rows[name]
            samples = await drive(call, clients, max(1, count // 4) if name == "video" else count)
            row.samples += samples
            row.calls += len(samples) + clients
            row.cpu.update({role: seconds - before[role] for role, seconds in cpu_seconds().items()})
    return list(rows.values())


def cpu_seconds() -> dict[str, float]:
    """The processor seconds so far of the proxy, of ingress replicas and of model replicas, idle ones included."""
    seconds: dict[str, float] = dict.fromkeys(ROLES, 0.0)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            title = (process.cmdline() or [""])[0].split(".")[0]
            spent = process.cpu_times().user + process.cpu_times().system
            if process.name().startswith("haproxy") or "Proxy" in title:
                seconds["proxy"] += spent
            elif title.startswith("ray::ServeReplica"):
                seconds["ingress" if title.endswith("ingress") else "replica"] += spent
    return seconds


def cpu_table(rows: list[Row]) -> str:
    head = f"{'CPU ms a request':<16}{'clients':>8}" + "".join(f"{role:>10}" for role in ROLES)
    lines = (
        f"{row.work:<16}{row.clients:>8}" + "".join(f"{row.cpu_ms(role):>10.1f}" for role in ROLES) for row in rows
    )
    return "\n".join([head, *lines])


def table(rows: list[Row]) -> str:
    head = (
        f"{'work':<16}{'clients':>8}" + "".join(f"{part + ' p50/p99 ms':>24}" for part in PARTS) + f"{'rest/bare':>11}"
    )
    lines = [head]
    for row in rows:
        cells = "".join(f"{row.quantile(part, 0.5):>14.1f} /{row.quantile(part, 0.99):>8.1f}" for part in PARTS)
        lines.append(f"{row.work:<16}{row.clients:>8}{cells}{beside_bare(row, rows):>11.2f}")
    return "\n".join(lines)


def beside_bare(row: Row, rows: list[Row]) -> float:
    """The p50 of the rest over that of the bare ingress with as many clients."""
    bare = next(each for each in rows if each.work == "bare" and each.clients == row.clients)
    return row.quantile("rest", 0.5) / bare.quantile("rest", 0.5)


def start(home: Path) -> dict[str, str]:
    """Both applications on one local Ray; gives the names of the models by kind."""
    from serve_app.app import build
    from serve_app.settings import Settings, resolve

    ray.init(include_dashboard=False, num_cpus=8, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    settings = Settings.model_validate({"profile": "demo", "home": str(home)})
    serve.run(BareIngress.bind(BareReplica.bind()), name="bare", route_prefix="/bare")
    serve.run(build(settings), name="diffusion", route_prefix="/")
    return {name: model.id for name, model in resolve(settings, "demo").served.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=120, help="counted requests for each row, a quarter for videos")
    parser.add_argument("--rounds", type=int, default=6, help="turns that the works take")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--json", type=Path, help="append the JSON line to this file")
    args = parser.parse_args()
    from serve_app.environment import home_folder

    rows: list[Row] = []
    models = start(home_folder())
    for clients in args.clients:
        rows += asyncio.run(measure(works(models, text_size=600), clients, args.requests, args.rounds))
    serve.shutdown()
    ray.shutdown()
    print(table(rows))
    print(cpu_table(rows))
    line = {
        "benchmark": "overhead",
        "date": date.today().isoformat(),
        "cpus": os.cpu_count(),
        "haproxy": os.environ.get("RAY_SERVE_ENABLE_HA_PROXY", "0"),
        "ray": ray.__version__,
        "rest_over_bare_p50": {
            f"{row.work} @{row.clients}": round(beside_bare(row, rows), 2) for row in rows if row.work != "bare"
        },
        "rows": [row.line() for row in rows],
    }
    print(json.dumps(line))
    if args.json:
        with args.json.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
