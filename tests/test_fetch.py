from __future__ import annotations

import asyncio
import base64
import datetime
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from serve_app.errors import InvalidRequest, UnsafeURL
from serve_app.fetch import checked_url, fetch_image, refused
from serve_app.media.images import encode_image
from serve_app.settings import FetchSettings, RequestLimits

PNG = encode_image(np.full((32, 48, 3), 127, np.uint8), "png")
LIMITS = RequestLimits(image_bytes=100_000, image_pixels=100_000)
LOCAL = FetchSettings(allow_hosts=("localhost",), timeout_s=5)


# --- address rules, with plain values ---

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


# --- a real TLS server ---

Handler = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers GET by `pages` (path to whole response, or a handler that writes it) and counts its connections."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.pages: dict[str, bytes | Handler] = {"/x.png": ok(PNG)}
        self.connections = 0
        self.requests: list[str] = []
        self.port = 0
        self._tls = tls

    async def start(self) -> asyncio.Server:
        # the listener itself is plain, so that a connection counts before its handshake does
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        return listener

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self._tls is not None:
                await writer.start_tls(self._tls)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            path = head.split()[1]
            page = self.pages[path]
            if isinstance(page, bytes):
                writer.write(page)
                await writer.drain()
            else:
                await page(path, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @property
    def base(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://localhost:{self.port}"


def ok(body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def moved(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n".encode()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for `localhost` with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
async def server(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    server = Server(tls)
    async with await server.start():
        yield server


async def test_fetches_over_tls(server: Server) -> None:
    assert (await fetch_image(f"{server.base}/x.png", LOCAL, LIMITS)).data == PNG
    head = server.requests[0].lower()
    assert f"host: localhost:{server.port}" in head
    assert "accept-encoding: identity" in head
    assert "cookie" not in head
    assert "authorization" not in head


async def test_proxies_of_the_environment_are_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
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


@pytest.mark.parametrize("status", [204, 304, 401, 404, 500])
async def test_other_answers_are_refused(server: Server, status: int) -> None:
    server.pages["/a"] = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
    with pytest.raises(InvalidRequest, match=str(status)):
        await fetch_image(f"{server.base}/a", LOCAL, LIMITS)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + PNG[:50],
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        ok(PNG[:-20]),
        ok(b"<html></html>", "Content-Type: image/png\r\n"),
        ok(b""),
    ],
)
async def test_broken_answers_are_refused(server: Server, answer: bytes) -> None:
    server.pages["/a"] = answer
    with pytest.raises(InvalidRequest):
        await fetch_image(f"{server.base}/a", LOCAL, LIMITS)


async def test_compressed_answers_are_not_unpacked(server: Server) -> None:
    import gzip

    server.pages["/a"] = ok(gzip.compress(PNG + b"\0" * 10_000_000), "Content-Encoding: gzip\r\n")
    with pytest.raises(InvalidRequest):
        await fetch_image(f"{server.base}/a", LOCAL, LIMITS)


async def test_bytes_are_counted_whatever_the_header_says(server: Server) -> None:
    sent = 0

    async def endless(path: str, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + PNG)
        while sent < 50_000_000:
            writer.write(b"\0" * 10_000)
            await writer.drain()
            sent += 10_000

    server.pages["/a"] = endless
    with pytest.raises(InvalidRequest, match="100000 bytes"):
        await fetch_image(f"{server.base}/a", LOCAL, LIMITS)
    assert sent < 20_000_000


async def test_pixels_are_limited(server: Server) -> None:
    with pytest.raises(InvalidRequest, match="pixels"):
        await fetch_image(f"{server.base}/x.png", LOCAL, RequestLimits(image_bytes=100_000, image_pixels=48 * 32 - 1))


async def test_one_time_limit_for_all_of_it(server: Server) -> None:
    async def drip(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            writer.write(b"\0")
            await writer.drain()
            await asyncio.sleep(0.1)

    server.pages["/a"] = drip
    began = time.monotonic()
    with pytest.raises(InvalidRequest, match="within 1 s"):
        await fetch_image(f"{server.base}/a", FetchSettings(allow_hosts=("localhost",), timeout_s=1), LIMITS)
    assert time.monotonic() - began < 8


async def test_what_follows_the_picture_is_cut_off(server: Server) -> None:
    server.pages["/a"] = ok(PNG + b"PK\x03\x04<script>")
    assert (await fetch_image(f"{server.base}/a", LOCAL, LIMITS)).data == PNG


async def test_a_name_that_does_not_exist() -> None:
    for host in ("no-such-host.invalid", "x" * 64 + ".invalid", "a..b"):
        with pytest.raises(InvalidRequest):
            await fetch_image(f"https://{host}/x.png", FetchSettings(timeout_s=5), LIMITS)


# --- data URLs ---


async def test_data_url() -> None:
    text = base64.b64encode(PNG).decode()
    for prefix in ("data:image/png;base64,", "DATA:IMAGE/PNG;BASE64,", "data:image/jpeg;base64,"):
        assert (await fetch_image(prefix + text, FetchSettings(), LIMITS)).data == PNG


@pytest.mark.parametrize("change", ["A", "=", "\n", " ", "%2B", "-_", "é", "\0"])
async def test_data_url_must_be_exact_base64(change: str) -> None:
    text = base64.b64encode(PNG).decode()
    with pytest.raises(InvalidRequest):
        await fetch_image(f"data:image/png;base64,{text[:40]}{change}{text[40:]}", FetchSettings(), LIMITS)


async def test_data_url_is_measured_before_it_is_decoded() -> None:
    with pytest.raises(InvalidRequest, match="larger"):
        await fetch_image("data:image/png;base64," + "A" * 1_000_000, FetchSettings(), LIMITS)
    await fetch_image(
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
        FetchSettings(),
        RequestLimits(image_bytes=len(PNG), image_pixels=48 * 32),
    )


@pytest.mark.parametrize("body", [b"", b"text", PNG[:-10], b"GIF89a"])
async def test_data_url_must_hold_a_picture(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await fetch_image("data:image/png;base64," + base64.b64encode(body).decode(), FetchSettings(), LIMITS)
