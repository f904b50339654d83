"""How busy a replica is while requests wait for it in Serve's router.

    python benchmarks/routing.py

A replica that sleeps in place of its engine, behind an ingress with one handle hop, on one local Ray: first with
Serve's default, then with the time after which our router looks for a free replica again (serve_app/app.py). `busy` is
the share of its lanes' time that was used while callers asked, each for one after another: from the mean time of a
request after the first one's begin, until the first caller had nothing left to ask.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import date
from typing import Any, cast

import ray
from ray import serve
from ray.serve.config import RequestRouterConfig

from serve_app.app import FIND_FREE_S

SERVE_S = RequestRouterConfig().max_backoff_s
WORKS = (("image", 1, 16, 0.1, 12), ("image", 1, 16, 0.4, 4), ("text", 64, 128, 10.0, 3))
"""What it stands for, lanes, callers, mean seconds of a request, and how many each caller sends."""


class Replica:
    """Sleeps on its lanes; `taken` holds when each lane was taken and left."""

    def __init__(self, lanes: int) -> None:
        self._lanes = asyncio.Semaphore(lanes)
        self.taken: list[tuple[float, float]] = []

    async def work(self, seconds: float) -> None:
        async with self._lanes:
            began = time.monotonic()
            await asyncio.sleep(seconds)
            self.taken.append((began, time.monotonic()))

    async def tell(self) -> list[tuple[float, float]]:
        return self.taken


class Ingress:
    def __init__(self, replica: Any) -> None:
        self._replica = replica

    async def work(self, seconds: float) -> None:
        await self._replica.work.remote(seconds)

    async def tell(self) -> list[tuple[float, float]]:
        return await self._replica.tell.remote()


def start(name: str, lanes: int, backoff_s: float) -> Any:
    small = {"num_cpus": 0.1}
    replica = cast(Any, serve.deployment(Replica)).options(
        ray_actor_options=small,
        max_ongoing_requests=lanes + 1,
        request_router_config=RequestRouterConfig.model_validate({"max_backoff_s": backoff_s}),
    )
    ingress = cast(Any, serve.deployment(Ingress)).options(ray_actor_options=small, max_ongoing_requests=1000)
    return serve.run(ingress.bind(replica.bind(lanes)), name=name, route_prefix=f"/{name}")


async def drive(handle: Any, callers: int, mean_s: float, each: int) -> float:
    """The time until the first caller has nothing left to ask, on the clock of this machine's processes."""
    ends: list[float] = []

    async def caller(i: int) -> None:
        await asyncio.sleep(i / callers * min(1.0, mean_s))
        for k in range(each):  # a half to one and a half of the mean, so that they end apart
            await handle.work.remote(mean_s * (4 + (i + 3 * k) * 7 % 9) / 8)
        ends.append(time.monotonic())

    await asyncio.gather(*(caller(i) for i in range(callers)))
    return ends[0]


def share_used(taken: list[tuple[float, float]], lanes: int, mean_s: float, end: float) -> float:
    begin = min(began for began, _ in taken) + mean_s  # the lanes fill at first, and none becomes free
    used = sum(max(0.0, min(left, end) - max(began, begin)) for began, left in taken)
    return used / lanes / (end - begin)


def main() -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    rows: list[dict[str, Any]] = []
    for kind, lanes, callers, mean_s, each in WORKS:
        busy: dict[str, float] = {}
        for name, backoff_s in (("serve", SERVE_S), ("ours", FIND_FREE_S)):
            handle = start(name, lanes, backoff_s)
            end = asyncio.run(drive(handle, callers, mean_s, each))
            busy[name] = round(share_used(handle.tell.remote().result(), lanes, mean_s, end), 3)
            serve.delete(name)
        work = f"{kind}s of {mean_s:g} s, {lanes} at once, {callers} callers"
        rows.append({"work": work, "busy": busy, "ratio": round(busy["ours"] / busy["serve"], 3)})
        print(f"{work:45} busy {busy['ours']:.3f}, with Serve's default {busy['serve']:.3f}", flush=True)
    print(json.dumps({"benchmark": "routing", "date": date.today().isoformat(), "rows": rows}))


if __name__ == "__main__":
    main()
