"""Whom a fetch connects to: names, certificates, proxies and redirects."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator

import pytest

from serve_app.errors import InvalidRequest, UnsafeURL
from serve_app.fetch import fetch_image
from serve_app.settings import FetchSettings
from tests.fetch.conftest import LIMITS, LOCAL, PNG, Server, moved


async def test_fetches_over_tls(server: Server) -> None:
    assert (await fetch_image(f"{server.base}/x.png", LOCAL, LIMITS)).data == PNG
    head = server.requests[0].lower()
    assert f"host: localhost:{server.port}" in head
    assert "accept-encoding: identity" in head
    assert "cookie" not in head
    assert "authorization" not in head


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[..., None]]:
    """Has every name lead to the addresses that it is called with, for the test."""

    with monkeypatch.context() as patch:

        def lead_to(*addresses: str) -> None:
            def resolve(host: str, port: int, **kwargs: object) -> list[object]:
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

            patch.setattr(socket, "getaddrinfo", resolve)

        yield lead_to


async def test_the_next_address_of_a_name_is_tried(server: Server, resolving: Callable[..., None]) -> None:
    resolving("127.0.0.2", "127.0.0.1")  # nobody listens on the first, as on the IPv6 address of a server without IPv6
    assert (await fetch_image(f"{server.base}/x.png", LOCAL, LIMITS)).data == PNG


@pytest.mark.parametrize("addresses", [("1.1.1.1", "127.0.0.1"), ("127.0.0.1", "1.1.1.1")])
async def test_one_address_that_is_not_public_is_enough(
    server: Server, resolving: Callable[..., None], addresses: tuple[str, ...]
) -> None:
    resolving(*addresses)
    with pytest.raises(UnsafeURL, match="not public"):
        await fetch_image(f"{server.base}/x.png", FetchSettings(timeout_s=5), LIMITS)
    assert server.connections == 0


async def test_proxies_of_the_environment_are_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert (await fetch_image(f"{server.base}/x.png", LOCAL, LIMITS)).data == PNG


async def test_a_certificate_for_another_name_is_refused(server: Server) -> None:
    settings = FetchSettings(allow_hosts=("127.0.0.1",))
    with pytest.raises(InvalidRequest, match="could not be fetched"):
        await fetch_image(f"https://127.0.0.1:{server.port}/x.png", settings, LIMITS)
    assert server.requests == []


async def test_an_unknown_authority_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(InvalidRequest, match="could not be fetched"):
        await fetch_image(f"{server.base}/x.png", LOCAL, LIMITS)


async def test_plain_http_where_allowed() -> None:
    plain = Server(None)
    async with await plain.start():
        settings = FetchSettings(allow_hosts=("localhost",), allow_http=True)
        assert (await fetch_image(f"{plain.base}/x.png", settings, LIMITS)).data == PNG
        with pytest.raises(UnsafeURL):
            await fetch_image(f"{plain.base}/x.png", LOCAL, LIMITS)


async def test_a_name_that_does_not_exist() -> None:
    for host in ("no-such-host.invalid", "x" * 64 + ".invalid", "a..b"):
        with pytest.raises(InvalidRequest):
            await fetch_image(f"https://{host}/x.png", FetchSettings(timeout_s=5), LIMITS)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(server: Server, status: int) -> None:
    server.pages["/a"] = moved("/x.png", status)
    assert (await fetch_image(f"{server.base}/a", LOCAL, LIMITS)).data == PNG


async def test_at_most_three_redirects(server: Server) -> None:
    server.pages |= {"/1": moved("/2"), "/2": moved("/3"), "/3": moved("/x.png"), "/0": moved("/1")}
    assert (await fetch_image(f"{server.base}/1", LOCAL, LIMITS)).data == PNG
    server.requests.clear()
    with pytest.raises(UnsafeURL, match="more than 3 times"):
        await fetch_image(f"{server.base}/0", LOCAL, LIMITS)
    assert len(server.requests) == 4
    server.pages["/loop"] = moved("/loop")
    with pytest.raises(UnsafeURL):
        await fetch_image(f"{server.base}/loop", LOCAL, LIMITS)


@pytest.mark.parametrize(
    "location",
    [
        "https://127.0.0.1:{port}/x.png",
        "https://[::1]:{port}/x.png",
        "https://2130706433:{port}/x.png",
        "//127.0.0.1:{port}/x.png",
        "http://localhost:{port}/x.png",
        "https://user:secret@localhost:{port}/x.png",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "https://[broken",
    ],
)
async def test_each_redirect_is_checked_again(server: Server, location: str) -> None:
    server.pages["/a"] = moved(location.format(port=server.port))
    with pytest.raises(UnsafeURL):
        await fetch_image(f"{server.base}/a", LOCAL, LIMITS)
    assert server.connections == 1
