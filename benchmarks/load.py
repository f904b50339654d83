"""Open-loop load on any OpenAI-compatible server: Poisson arrivals of chats, images and videos, latency by kind.

    python benchmarks/load.py --text-rate 1 --image-rate 0.5 --video-rate 0.05 --seconds 120 --chart load.png

Requests are sent at their drawn times whether or not earlier ones were answered, and a latency counts from the drawn
time, so a slow server cannot hide behind a patient client. A chat streams (its first chunk is timed too), an image
waits for its answer, a video is a job that is polled until it ends. `--text-body`, `--image-body` and `--video-body`
take JSON that is laid over the request, again and again for a mix of shapes. Models that are not named are looked up in
/v1/models. With `--replicas` the replica counts of a Ray Serve cluster are read beside, and drawn. Bounded by
`--requests` of each kind and `--seconds`; only loopback unless `--allow-remote`. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

Kind = Literal["text", "image", "video"]
KINDS: tuple[Kind, ...] = ("text", "image", "video")
BODIES: dict[Kind, dict[str, Any]] = {
    "text": {"messages": [{"role": "user", "content": "Tell me about the sea."}], "max_tokens": 64, "stream": True},
    "image": {"prompt": "A lighthouse in the fog", "n": 1},
    "video": {"prompt": "Waves on a beach", "seconds": "2"},
}
WORDS: dict[Kind, tuple[str, ...]] = {
    "text": ("llada", "gpt", "llama", "qwen", "dream"),
    "image": ("flux", "image", "sd", "diffusion"),
    "video": ("wan", "video", "sora"),
}
"""What to look for in the name of a model that the server lists, where it does not tell the kind."""
POLL_S = 0.5


@dataclass(frozen=True)
class Sample:
    """One request, in seconds from the start of the run: when it was due, how long it took, and how it ended."""

    kind: Kind
    due: float
    seconds: float
    outcome: str
    first_s: float | None = None

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"


@dataclass
class Run:
    """What one run has found; `replicas` are counts of running replicas by deployment, with the time of each look."""

    samples: list[Sample] = field(default_factory=list[Sample])
    replicas: list[tuple[float, dict[str, int]]] = field(default_factory=list[tuple[float, dict[str, int]]])


# --- arrivals -------------------------------------------------------------------------------------------------------


def arrivals(rate: float, seconds: float, most: int, draw: random.Random) -> list[float]:
    """Times of a Poisson process of `rate` a second, within `seconds` and at most `most` of them."""
    times: list[float] = []
    at = draw.expovariate(rate) if rate > 0 else seconds
    while at < seconds and len(times) < most:
        times.append(at)
        at += draw.expovariate(rate)
    return times


async def drive(client: httpx.AsyncClient, plan: Iterable[tuple[float, Kind, dict[str, Any]]], end_s: float) -> Run:
    """Sends each request at its time and waits for all, at most until `end_s`; what has not ended then says so."""
    run = Run()
    began = time.perf_counter()

    async def one(due: float, kind: Kind, body: dict[str, Any]) -> None:
        first: list[float] = []
        outcome = "unfinished"
        try:
            await asyncio.sleep(max(0.0, due - (time.perf_counter() - began)))
            outcome = await SENDERS[kind](client, body, lambda: first.append(time.perf_counter() - began - due))
        except httpx.HTTPError as error:
            outcome = type(error).__name__
        finally:
            spent = time.perf_counter() - began - due
            if spent >= 0:
                run.samples.append(Sample(kind, due, spent, outcome, first[0] if first else None))

    tasks = [asyncio.create_task(one(*request)) for request in plan]
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=end_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    return run


# --- one request of each kind -----------------------------------------------------------------------------------------


async def _text(client: httpx.AsyncClient, body: dict[str, Any], first: Callable[[], None]) -> str:
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            return _failure(answer, await answer.aread())
        done = not body.get("stream")
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                first()
            done = done or line == "data: [DONE]"
            if line.startswith('data: {"error"'):
                return "error in stream"
    return "ok" if done else "cut off"


async def _image(client: httpx.AsyncClient, body: dict[str, Any], first: Callable[[], None]) -> str:
    del first
    answer = await client.post("/v1/images/generations", json=body)
    return "ok" if answer.status_code == 200 else _failure(answer, answer.content)


async def _video(client: httpx.AsyncClient, body: dict[str, Any], first: Callable[[], None]) -> str:
    answer = await client.post("/v1/videos", json=body, headers={"prefer": "respond-async"})
    while answer.is_success:
        job = answer.json()
        if job["status"] == "completed":
            return "ok"
        if job["status"] == "failed":
            return str((job.get("error") or {}).get("code") or "failed")
        first()
        await asyncio.sleep(POLL_S)
        answer = await client.get(f"/v1/videos/{job['id']}")
    return _failure(answer, answer.content)


SENDERS: dict[Kind, Callable[[httpx.AsyncClient, dict[str, Any], Callable[[], None]], Awaitable[str]]] = {
    "text": _text,
    "image": _image,
    "video": _video,
}


def _failure(answer: httpx.Response, content: bytes) -> str:
    with suppress(ValueError, KeyError, TypeError):
        return f"{answer.status_code} {json.loads(content)['error']['code']}"
    return str(answer.status_code)


# --- the server's models and replicas ---------------------------------------------------------------------------------


async def find_models(client: httpx.AsyncClient, kinds: Iterable[Kind]) -> dict[Kind, str]:
    """A model of each kind from the server's list, by the kind it tells or by its name."""
    answer = (await client.get("/v1/models")).raise_for_status().json()["data"]
    found: dict[Kind, str] = {}
    for kind in kinds:
        told = [model["id"] for model in answer if kind in (model.get("kind"), model.get("type"))]
        named = [model["id"] for model in answer if any(word in model["id"].lower() for word in WORDS[kind])]
        if not told and not named:
            raise SystemExit(f"no {kind} model among {[model['id'] for model in answer]}: name it with --{kind}-model")
        found[kind] = (told or named)[0]
    return found


def connect(address: str) -> None:
    """Connects to the Ray cluster, as `ray.init` names it; with token auth, RAY_AUTH_MODE=token has to be set."""
    import ray

    ray.init(address=address, namespace="serve", log_to_driver=False, configure_logging=False)


async def watch_replicas(looks: list[tuple[float, dict[str, int]]], every_s: float = 1.0) -> None:
    """Appends the running replicas of each deployment until cancelled, with the seconds since it began."""
    from ray import serve

    began = time.perf_counter()
    while True:
        status = await asyncio.to_thread(serve.status)
        counts = {
            name: sum(number for state, number in deployment.replica_states.items() if str(state) == "RUNNING")
            for application in status.applications.values()
            for name, deployment in application.deployments.items()
        }
        looks.append((time.perf_counter() - began, counts))
        await asyncio.sleep(every_s)


# --- the report -------------------------------------------------------------------------------------------------------


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(len(ordered) * percent / 100)) - 1]


def summary(samples: Sequence[Sample], seconds: float) -> dict[str, Any]:
    """Counts, the answered rate and the latencies of one kind."""
    ok = [sample for sample in samples if sample.ok]
    result: dict[str, Any] = {
        "sent": len(samples),
        "ok": len(ok),
        "outcomes": dict(Counter(sample.outcome for sample in samples)),
        "ok_per_s": round(len(ok) / seconds, 4),
    }
    columns = {"": [sample.seconds for sample in ok], "first_": [s.first_s for s in ok if s.first_s is not None]}
    for prefix, values in columns.items():
        if values:
            result |= {f"{prefix}p{p}_s": round(percentile(values, p), 4) for p in (50, 90, 99, 100)}
    return result


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results for people."""
    columns = [("sent", 6), ("ok", 6), ("ok/s", 8), ("p50", 9), ("p90", 9), ("p99", 9), ("max", 9), ("first p50", 11)]
    lines = [f"{'kind':<7}" + "".join(f"{name:>{width}}" for name, width in columns) + "  not ok"]
    for kind, result in results.items():
        counts = f"{result['sent']:>6}{result['ok']:>6}{result['ok_per_s']:>8.2f}"
        times = "".join(_seconds(result.get(f"p{p}_s"), 9) for p in (50, 90, 99, 100))
        failures = {outcome: number for outcome, number in result["outcomes"].items() if outcome != "ok"}
        lines.append(f"{kind:<7}{counts}{times}{_seconds(result.get('first_p50_s'), 11)}  {failures or ''}".rstrip())
    return "\n".join(lines)


def _seconds(value: float | None, width: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width - 1}.2f}s"


def replica_lines(replicas: Sequence[tuple[float, dict[str, int]]], columns: int = 60) -> str:
    """The replica counts over time, a digit for each slice of it (the most in that slice; + above 9)."""
    if not replicas:
        return ""
    end = replicas[-1][0] or 1.0
    names = sorted({name for _, counts in replicas for name in counts})
    lines = [f"replicas over {end:.0f} s, {end / columns:.1f} s a column"]
    for name in names:
        slices: list[list[int]] = [[] for _ in range(columns)]
        for at, counts in replicas:
            slices[min(columns - 1, int(at / end * columns))].append(counts.get(name, 0))
        digits = ""
        for numbers in slices:
            digits += digits[-1:] or " " if not numbers else str(max(numbers)) if max(numbers) < 10 else "+"
        lines.append(f"{name:<12}{digits}")
    return "\n".join(lines)


def draw_chart(run: Run, path: Path) -> None:
    """Latency of each request, requests under way, and replicas, over the time of the run, as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = 3 if run.replicas else 2
    figure, axes = plt.subplots(rows, 1, sharex=True, figsize=(9, 2.6 * rows), layout="constrained")
    colours: dict[str, str] = {"text": "tab:blue", "image": "tab:orange", "video": "tab:green"}
    for kind in KINDS:
        samples = [sample for sample in run.samples if sample.kind == kind]
        if not samples:
            continue
        for ok, marker in ((True, "."), (False, "x")):
            chosen = [sample for sample in samples if sample.ok is ok]
            label = kind if ok else f"{kind}, failed"
            if chosen:
                axes[0].scatter([s.due for s in chosen], [s.seconds for s in chosen], s=14, marker=marker,
                                color=colours[kind], label=label)  # fmt: skip
        changes = sorted([(s.due, 1) for s in samples] + [(s.due + s.seconds, -1) for s in samples])
        under_way = [0]
        for _, change in changes:
            under_way.append(under_way[-1] + change)
        axes[1].step([at for at, _ in changes], under_way[1:], where="post", color=colours[kind], label=kind)
    axes[0].set(ylabel="latency (s)", yscale="log")
    axes[1].set(ylabel="under way")
    if run.replicas:
        times = [at for at, _ in run.replicas]
        # each a little higher than the one before, so that equal counts do not hide one another
        for place, name in enumerate(sorted({name for _, counts in run.replicas for name in counts})):
            running = [counts.get(name, 0) + 0.04 * place for _, counts in run.replicas]
            style = {"color": colours[name.lower()]} if name.lower() in colours else {"linestyle": ":"}
            axes[2].step(times, running, where="post", label=name, **style)
        axes[2].set(ylabel="replicas", ylim=(-0.1, None))
    for axis in axes:
        axis.legend(loc="upper right", fontsize="small")
        axis.grid(alpha=0.3)
    axes[-1].set(xlabel="time (s)")
    figure.savefig(path, dpi=120)
    plt.close(figure)


# --- the command ------------------------------------------------------------------------------------------------------


def is_loopback(url: str) -> bool:
    """Whether the URL names this machine by a loopback address or as localhost."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


async def measure(args: argparse.Namespace) -> Run:
    """One run as the arguments say."""
    key = os.environ.get(args.api_key_env, "none")
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=args.url, headers=headers, timeout=args.timeout_s, limits=limits) as client:
        plan = await planned(client, args)
        end_s = (plan[-1][0] if plan else 0.0) + args.drain_s
        if not args.replicas:
            return await drive(client, plan, end_s)
        looks: list[tuple[float, dict[str, int]]] = []
        await asyncio.to_thread(connect, args.replicas)
        watcher = asyncio.create_task(watch_replicas(looks))
        run = await drive(client, plan, end_s)
        await asyncio.sleep(args.watch_after_s)
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        run.replicas = looks
        return run


async def planned(client: httpx.AsyncClient, args: argparse.Namespace) -> list[tuple[float, Kind, dict[str, Any]]]:
    """Every request of the run, in the order of its time."""
    draw = random.Random(args.seed)
    rates: dict[Kind, float] = {kind: getattr(args, f"{kind}_rate") for kind in KINDS}
    kinds: list[Kind] = [kind for kind in KINDS if rates[kind] > 0]
    named: dict[Kind, str] = {kind: name for kind in kinds if (name := getattr(args, f"{kind}_model"))}
    missing: list[Kind] = [kind for kind in kinds if kind not in named]
    models = named | (await find_models(client, missing) if missing else {})
    plan: list[tuple[float, Kind, dict[str, Any]]] = []
    for place, kind in enumerate(kinds):
        start = 0.0 if args.in_turn is None else place * (args.seconds + args.in_turn)
        shapes: list[dict[str, Any]] = [json.loads(body) for body in getattr(args, f"{kind}_body")] or [{}]
        base = {"model": models[kind], **BODIES[kind]}
        times = arrivals(rates[kind], args.seconds, args.requests, draw)
        plan.extend((start + at, kind, base | draw.choice(shapes)) for at in times)
    return sorted(plan, key=lambda each: each[0])


def main() -> int:
    """Prints the table, the replicas and the JSON line; 1 where a request failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--allow-remote", action="store_true", help="let --url name another machine than this one")
    parser.add_argument("--api-key-env", default="OPENAI_API_KEY", metavar="VARIABLE", help="which variable holds it")
    for kind in KINDS:
        parser.add_argument(f"--{kind}-rate", type=float, default=0.0, metavar="PER_S")
        parser.add_argument(f"--{kind}-model", metavar="NAME")
        parser.add_argument(f"--{kind}-body", action="append", default=[], metavar="JSON", help="may be given often")
    parser.add_argument("--seconds", type=float, default=60.0, help="of arrivals")
    parser.add_argument("--in-turn", type=float, metavar="PAUSE_S", help="one kind after the other, so long apart")
    parser.add_argument("--requests", type=int, default=1000, help="at most, of each kind")
    parser.add_argument("--drain-s", type=float, default=120.0, help="to wait for the last answers")
    parser.add_argument("--timeout-s", type=float, default=600.0, help="of one HTTP call")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replicas", nargs="?", const="auto", metavar="RAY_ADDRESS", help="read Ray Serve's replicas")
    parser.add_argument("--watch-after-s", type=float, default=0.0, help="go on reading replicas for so long")
    parser.add_argument("--chart", type=Path, metavar="PNG")
    args = parser.parse_args()
    if not is_loopback(args.url) and not args.allow_remote:
        parser.error(f"{args.url} is not this machine: --allow-remote, if it is yours to load")
    if not any(getattr(args, f"{kind}_rate") > 0 for kind in KINDS):
        parser.error("give at least one of --text-rate, --image-rate and --video-rate")
    run = asyncio.run(measure(args))
    by_kind = {kind: [sample for sample in run.samples if sample.kind == kind] for kind in KINDS}
    results = {kind: summary(samples, args.seconds) for kind, samples in by_kind.items() if samples}
    print(table(results))
    if lines := replica_lines(run.replicas):
        print(lines)
    if args.chart:
        draw_chart(run, args.chart)
        print(f"chart: {args.chart}")
    asked = {key: value for key, value in vars(args).items() if key != "chart"}
    print(json.dumps({"benchmark": "load", "args": asked, "results": results, "replicas": run.replicas}))
    return 0 if all(sample.ok for sample in run.samples) else 1


if __name__ == "__main__":
    sys.exit(main())
