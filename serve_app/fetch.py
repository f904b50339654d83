"""Fetches an input image that a caller named by URL, trusting neither the URL nor the server behind it.

The name is resolved once and the connection goes to an address that was checked, so that a name which changes its
mind between check and use (DNS rebinding) gains nothing; TLS still verifies the name. No proxies, cookies or
compression. What the image is for is not known here. See OWASP's Server-Side Request Forgery Prevention Cheat Sheet.
"""

import asyncio
import base64
import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, cast

import httpcore
import httpx

from serve_app.errors import InvalidRequest, UnsafeURL
from serve_app.media.images import ImageInfo, check_image
from serve_app.settings import FetchSettings, RequestLimits
from serve_app.threads import Pool

_LONGEST_URL = 8192
_RESOLVER = Pool("resolver", 8)
"""A name server can take half a minute, and the caller chooses which one."""
_REDIRECTS = (301, 302, 303, 307, 308)
_HOST = re.compile(rb"[a-z0-9._-]+|[0-9a-f:.]+")  # a name or an IPv6 address, as httpx leaves them
_DATA = re.compile(r"data:image/(?:png|jpeg|jpg|webp);base64,", re.IGNORECASE)
_RAW = re.compile(r"[A-Za-z0-9+/_-]{64}")
"""Bare base64, which is no URL."""
_CHECKERS = Pool("image", 2)
"""Few: each holds a whole decoded picture."""
_HEADERS = [(b"Accept", b"image/png, image/jpeg, image/webp"), (b"Accept-Encoding", b"identity")]

# What Python's `is_global` (IANA's registries) lets through, and no caller should reach.
_REFUSED = [
    ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's host agent, public by number only
        "192.0.0.0/24",  # protocol assignments (Oracle's metadata)
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
]
_GLOBAL_IPV6 = ip_network("2000::/3")
"""Global unicast: that alone refuses IPv4-mapped addresses and NAT64 (64:ff9b::/96, 64:ff9b:1::/48)."""


async def fetch_image(url: str, settings: FetchSettings, limits: RequestLimits) -> ImageInfo:
    """The checked image behind an https or data URL; raises UnsafeURL or InvalidRequest."""
    if _DATA.match(url):
        data = await _CHECKERS.run(_decoded, url, limits.image_bytes)
    elif _RAW.match(url):
        raise InvalidRequest("The image is no URL. Base64 is sent as data:image/png;base64,...")
    else:
        try:
            async with asyncio.timeout(settings.timeout_s):
                data = await _downloaded(url, settings, limits.image_bytes)
        except TimeoutError as exc:
            raise InvalidRequest(f"The image could not be fetched within {settings.timeout_s:g} s.") from exc
    return await check_off_loop(data, limits)


async def check_off_loop(data: bytes, limits: RequestLimits) -> ImageInfo:
    """Runs `check_image` in one of few threads."""
    return await _CHECKERS.run(check_image, data, limits)


def refused(address: IPv4Address | IPv6Address) -> bool:
    """Whether a caller's URL must not reach this address: anything but public unicast."""
    if not address.is_global or address.is_multicast or any(address in network for network in _REFUSED):
        return True
    return isinstance(address, IPv6Address) and address not in _GLOBAL_IPV6


def checked_url(url: str, settings: FetchSettings, base: httpx.URL | None = None) -> httpx.URL:
    """The parsed URL, below `base` where that redirects. Raises UnsafeURL for what its form alone rules out."""
    allowed = "an https, http or data URL" if settings.allow_http else "an https or data URL"
    try:
        parsed = httpx.URL(url[: _LONGEST_URL + 1])
        parsed = parsed if base is None else base.join(parsed)
    except httpx.InvalidURL as exc:
        raise UnsafeURL(f"The image must be {allowed}.") from exc
    if parsed.scheme not in (("https", "http") if settings.allow_http else ("https",)):
        raise UnsafeURL(f"The image must be {allowed}.")
    if not _HOST.fullmatch(parsed.raw_host) or not 0 < (parsed.port or 443) < 65536:
        raise UnsafeURL("The image URL names no valid host.")
    if len(url) > _LONGEST_URL:
        raise UnsafeURL(f"The image URL is longer than {_LONGEST_URL} characters.")
    if parsed.userinfo:
        raise UnsafeURL("The image URL must not hold a user name or password.")
    return parsed


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the address that it resolved and checked, never to a name."""

    def __init__(self, allow_hosts: tuple[str, ...]) -> None:
        self._allowed = {host.lower() for host in allow_hosts}
        # httpcore defines it under a try-import, which pyright reads as a plain object
        self._network = cast(httpcore.AsyncNetworkBackend, httpcore.AnyIOBackend())

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        found = await _RESOLVER.run(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        # One bad address is enough: no honest name has public and private addresses.
        if host.lower() not in self._allowed and any(refused(ip_address(address)) for address in addresses):
            raise UnsafeURL("The image URL leads to an address that is not public.")
        failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, *args, **kwargs)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failure = exc
        raise failure or httpcore.ConnectError("the name has no address")


async def _downloaded(url: str, settings: FetchSettings, max_bytes: int) -> bytes:
    target = checked_url(url, settings)
    # reading certificates takes tens of milliseconds; SSL_CERT_FILE may name those of a private authority
    tls = await asyncio.to_thread(httpx.create_ssl_context)
    backend = _CheckedBackend(settings.allow_hosts)
    try:
        async with httpcore.AsyncConnectionPool(ssl_context=tls, network_backend=backend) as pool:
            for _ in range(settings.max_redirects + 1):
                found = await _requested(pool, target, settings.timeout_s, max_bytes)
                if isinstance(found, bytes):
                    return found
                target = checked_url(found, settings, target)
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError, UnicodeError) as exc:
        raise InvalidRequest("The image could not be fetched from its URL.") from exc
    raise UnsafeURL(f"The image URL redirects more than {settings.max_redirects} times.")


async def _requested(
    pool: httpcore.AsyncConnectionPool, target: httpx.URL, timeout_s: float, max_bytes: int
) -> bytes | str:
    """The body of the answer, or where it redirects to."""
    address = httpcore.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)
    headers = [(b"Host", target.netloc), *_HEADERS]
    limits = dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)
    async with pool.stream("GET", address, headers=headers, extensions={"timeout": limits}) as response:
        answered = {name.lower(): value for name, value in response.headers}
        if response.status in _REDIRECTS and b"location" in answered:
            return answered[b"location"].decode("latin-1")
        if response.status != 200:
            raise InvalidRequest(f"The image URL answered with status {response.status}.")
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > max_bytes:
                raise InvalidRequest(f"The image is larger than the limit of {max_bytes} bytes.")
        return bytes(body)


def _decoded(url: str, max_bytes: int) -> bytes:
    """The bytes of a base64 data URL (RFC 2397), which must be exact: no line breaks, no missing padding."""
    begin = url.index(",") + 1
    if len(url) - begin > (max_bytes + 2) // 3 * 4:
        raise InvalidRequest(f"The image is larger than the limit of {max_bytes} bytes.")
    try:
        return base64.b64decode(url[begin:], validate=True)
    except ValueError as exc:
        raise InvalidRequest("The image's data URL is not valid base64.") from exc
