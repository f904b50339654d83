"""Decides which web pages may use this server: CORS for named ones; without API keys, all others are refused.

A browser sends a page's request to any address that the page names, a laptop's own server included. Without API keys
nothing but the Host header (which a page cannot choose: DNS rebinding ends there) and Origin and Sec-Fetch-Site tell
such a request from the owner's. Who holds a key is trusted by it. https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.errors import HostNotAllowed
from serve_app.settings import AccessSettings

ANY = "*"
PROBES = frozenset({"/health", "/ready", "/metrics"})
"""Paths that probes of pods and Prometheus ask by an address not known beforehand."""
METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
EXPOSED = (
    "x-request-id, retry-after, openai-processing-ms, openai-poll-after-ms, preference-applied, server-timing, "
    "content-range, x-job-id, x-job-model, x-job-seed, x-job-inference-time-s, idempotency-key"
)
"""What a page's script may read of an answer."""
ALLOWED = "authorization, content-type, idempotency-key, prefer, range, x-request-id"
PREFLIGHT_S = "600"
HEADER_LIST = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+){0,63}")
SHOWN_CHARS = 64


class Origins:
    """The decisions. `trusts_keys`: every request needs an API key, so that strangers get nowhere."""

    def __init__(self, access: AccessSettings, *, trusts_keys: bool) -> None:
        self._hosts = frozenset(access.hosts)
        self._origins = frozenset(access.cors_origins)
        self._trusts_keys = trusts_keys

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Raises HostNotAllowed for a request of a stranger's page to a server that asks for no key."""
        if self._trusts_keys or path in PROBES:
            return
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise HostNotAllowed(
                f"The host '{host[:SHOWN_CHARS]}' is not one that this server answers to without API keys. Name it in "
                "access.hosts, or set API keys (access.keys_env or access.keys_file)."
            )
        if self._is_foreign(method, headers, host):
            raise HostNotAllowed(
                f"A page of another site ('{headers.get('origin', 'unknown')[:SHOWN_CHARS]}') may not use this server "
                "without API keys. Name its origin in access.cors_origins."
            )

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may call."""
        return bool(origin) and (ANY in self._origins or origin.lower() in self._origins)

    def answer_headers(self, origin: str) -> list[tuple[bytes, bytes]]:
        """CORS headers for every answer to such a page. Empty if no origins are set."""
        if not self._origins:
            return []
        vary = (b"vary", b"Origin")  # a cache must not mix up answers for different pages
        if not self.allows(origin):
            return [vary]
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", EXPOSED.encode()),
            vary,
        ]

    def _is_ours(self, host: str) -> bool:
        name = _name_of(host)
        return bool(name) and (ANY in self._hosts or name in self._hosts or _is_loopback(name))

    def _is_foreign(self, method: str, headers: Mapping[str, str], host: str) -> bool:
        origin, site = headers.get("origin", ""), headers.get("sec-fetch-site", "")
        # browsers load a page's pictures without an Origin header
        if self.allows(origin or _origin_of(headers.get("referer", ""))):
            return False
        if site:
            # following a link only shows a page and starts no work
            follows = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
            return site == "cross-site" and not (follows and headers.get("sec-fetch-dest") == "document")
        if not origin:
            return False
        name = _name_of(urlsplit(origin).netloc if "://" in origin else "")
        return not (name == _name_of(host) or _is_loopback(name))


def _name_of(host: str) -> str:
    """The name or address in a Host header, in small letters, without its port; empty where there is none."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _origin_of(url: str) -> str:
    return url[: url.find("/", url.find("://") + 3)] if url.count("/") > 2 else url


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


class OriginsMiddleware:
    """Answers preflights, without a key, and refuses what `Origins` refuses. Stands inside the envelope."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        self._origins.check(scope["method"], path, headers)
        is_preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        if is_preflight and self._origins.allows(headers.get("origin", "")):
            await _preflight(headers)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class OriginHeaders:
    """Adds the headers of CORS to every answer: errors, streams and media too. Stands outside of the envelope."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        added = self._origins.answer_headers(Headers(scope=scope).get("origin", "")) if scope["type"] == "http" else []
        if not added:
            await self._app(scope, receive, send)
            return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, send_marked)


def _preflight(headers: Headers) -> Response:
    asked = headers.get("access-control-request-headers", "").strip()
    allowed = asked if HEADER_LIST.fullmatch(asked) else ALLOWED  # clients send headers of their own: x-stainless-os
    response = Response(status_code=204)
    response.headers["access-control-allow-methods"] = METHODS
    response.headers["access-control-allow-headers"] = allowed
    response.headers["access-control-max-age"] = PREFLIGHT_S
    if headers.get("access-control-request-private-network") == "true":
        response.headers["access-control-allow-private-network"] = "true"
    return response
