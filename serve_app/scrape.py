"""What /metrics answers: our metrics and Serve's own, from every node of the cluster, as Prometheus text.

Asks the metrics agents of all nodes at once. Processes report to them every ten seconds by default. Anyone may read the
answer, so it names nodes by id, never by address.
"""

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import httpx

from serve_app.telemetry.metrics import PREFIX
from serve_app.threads import Pool

logger = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SHOWN = (f"ray_{PREFIX}", "ray_serve_")
TIMEOUT_S = 5.0
KEEP_S = 1.0
ID_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster: its id, and where its metrics agent listens."""

    id: str
    host: str
    port: int


class Metrics:
    """Asks the nodes at most once per `KEEP_S`, and never twice at the same time."""

    def __init__(self) -> None:
        self._asking = asyncio.Lock()
        self._known = b""
        self._until = float("-inf")
        self._pool = Pool("metrics", 1)

    async def __call__(self) -> bytes:
        async with self._asking:
            if time.monotonic() >= self._until:
                nodes = await self._pool.run(alive_nodes)
                self._known = await scrape(nodes)
                self._until = time.monotonic() + KEEP_S
        return self._known


def alive_nodes() -> list[Node]:
    """The nodes of the cluster that this process is part of; none without a Ray runtime. Blocks."""
    import ray

    if not ray.is_initialized():
        return []
    return [
        Node(node["NodeID"][:ID_DIGITS], node["NodeManagerAddress"], node["MetricsExportPort"])
        for node in ray.nodes()
        if node["Alive"]
    ]


async def scrape(nodes: Iterable[Node]) -> bytes:
    """The merged text of all nodes; one that does not answer is left out and named, by its id, in a comment."""
    asked = list(nodes)
    # ignores proxies of the environment: the agents are inside the cluster
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
        answers = await asyncio.gather(*(_ask(client, node) for node in asked))
    names = {node.host: node.id for node in asked}
    texts = [_without_addresses(text, names) for text in answers if text is not None]
    silent = [node.id for node, text in zip(asked, answers, strict=True) if text is None]
    missing = "".join(f"# no answer from the metrics agent of node {id}\n" for id in silent)
    return (merge_families(texts, SHOWN) + missing).encode()


async def _ask(client: httpx.AsyncClient, node: Node) -> str | None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            answer = await client.get(httpx.URL(scheme="http", host=node.host, port=node.port, path="/metrics"))
            return answer.raise_for_status().text
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        logger.warning("no answer from the metrics agent at %s:%d: %r", node.host, node.port, error)
        return None


def _without_addresses(text: str, names: Mapping[str, str]) -> str:
    """`text` with each node's address in labels replaced by its id."""
    hosts = "|".join(re.escape(host) for host in names)
    return re.sub(rf'(?<==")({hosts})(?=[":])', lambda found: names[found[1]], text)


def merge_families(texts: Iterable[str], prefixes: tuple[str, ...]) -> str:
    """One exposition text of several: families whose name begins with one of `prefixes`, each with one header."""
    headers: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for text in texts:
        family = ""
        for line in text.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                family = line.split(" ", 3)[2]
                if family.startswith(prefixes) and line not in headers.setdefault(family, []):
                    headers[family].append(line)
            elif line.startswith(prefixes):
                samples.setdefault(family, []).append(line)
    lines = [line for family in sorted(samples) for line in (*headers.get(family, ()), *samples[family])]
    return "".join(f"{line}\n" for line in lines)
