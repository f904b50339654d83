"""Which addresses and URLs are refused before anything is connected to."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from serve_app.errors import UnsafeURL
from serve_app.fetch import checked_url, fetch_image, refused
from serve_app.settings import FetchSettings
from tests.fetch.conftest import LIMITS, Server

REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "2606:4700::1111",
    "2a00:1450::1",
]


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert refused(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_not(address: str) -> None:
    assert not refused(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "image.png",
        "//example.com/x.png",
        "http://example.com/x.png",
        "ftp://example.com/x.png",
        "file:///etc/passwd",
        "gopher://example.com/",
        "https://",
        "https:///x.png",
        "https://user@example.com/x.png",
        "https://user:secret@example.com/x.png",
        "https://example.com:99999/x.png",
        "https://exa mple.com/x.png",
        "https://example.com\r\nX-Evil: 1/x.png",
        "https://example.com/\r\nX-Evil: 1",
        "https://[::1/x.png",
        "https://example.com/" + "x" * 9000,
        "data:text/html;base64,PGh0bWw+",
        "data:image/svg+xml;base64,PHN2Zy8+",
        "data:image/png,notbase64",
        "javascript:alert(1)",
    ],
)
async def test_urls_refused_by_their_form(url: str) -> None:
    with pytest.raises(UnsafeURL):
        await fetch_image(url, FetchSettings(), LIMITS)


def test_http_where_it_is_allowed() -> None:
    assert checked_url("http://example.com/x.png", FetchSettings(allow_http=True)).scheme == "http"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost"]
)
async def test_no_spelling_of_loopback_is_connected_to(server: Server, host: str) -> None:
    with pytest.raises(UnsafeURL):
        await fetch_image(f"https://{host}:{server.port}/x.png", FetchSettings(), LIMITS)
    assert server.connections == 0
