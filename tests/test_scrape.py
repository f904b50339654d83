"""/metrics over the metrics agents of several nodes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

import pytest

from serve_app.scrape import Node, merge_families, scrape
from tests.s3_server import free_port


class Agent(BaseHTTPRequestHandler):
    """Tells what it was asked by, with the labels that Ray puts there."""

    def do_GET(self) -> None:
        agent = cast(ThreadingHTTPServer, self.server)
        host, port = str(agent.server_address[0]), agent.server_port
        body = (
            "# TYPE ray_serve_x counter\n"
            f'ray_serve_x{{NodeAddress="{host}",peer="{host}:{port}",route="/127.0.0.1"}} 1.0\n'
        ).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    """Two that answer, on two addresses, and one that is dead."""
    servers = [ThreadingHTTPServer((host, 0), Agent) for host in ("127.0.0.1", "127.0.0.2")]
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    live = [
        Node(f"node{i}", str(server.server_address[0]), server.server_address[1]) for i, server in enumerate(servers)
    ]
    yield [*live, Node("node2", "127.0.0.3", free_port())]
    for server in servers:
        server.shutdown()
        server.server_close()
    for thread in threads:
        thread.join()


async def test_nodes_are_named_by_their_ids_alone(nodes: list[Node]) -> None:
    text = (await scrape(nodes)).decode()
    ports = [node.port for node in nodes]
    assert text.splitlines() == [
        "# TYPE ray_serve_x counter",
        f'ray_serve_x{{NodeAddress="node0",peer="node0:{ports[0]}",route="/127.0.0.1"}} 1.0',
        f'ray_serve_x{{NodeAddress="node1",peer="node1:{ports[1]}",route="/127.0.0.1"}} 1.0',
        "# no answer from the metrics agent of node node2",
    ]


async def test_a_proxy_of_the_environment_is_not_asked(nodes: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert "node0" in (await scrape(nodes[:1])).decode()


async def test_without_a_cluster_there_is_nothing() -> None:
    assert await scrape([]) == b""


def test_nodes_are_merged_into_families_with_one_header() -> None:
    first = '# HELP ray_a A\n# TYPE ray_a counter\nray_a{n="1"} 1.0\n# HELP other B\n# TYPE other gauge\nother 2\n'
    second = '# HELP ray_a A\n# TYPE ray_a counter\nray_a{n="2"} 2.0\nray_b_bucket 3.0\n'
    assert merge_families([first, second], ("ray_a",)).splitlines() == [
        "# HELP ray_a A",
        "# TYPE ray_a counter",
        'ray_a{n="1"} 1.0',
        'ray_a{n="2"} 2.0',
    ]
