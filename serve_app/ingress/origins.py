"""Decides which web pages may use this server: CORS for named ones; without API keys, all others are refused.

A browser sends a page's request to any address that the page names, a laptop's own server included. Without API keys
nothing but the Host header (which a page cannot choose: DNS rebinding ends there) and Origin and Sec-Fetch-Site tell
such a request from the owner's. Who holds a key is trusted by it. https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from collections.abc import Mapping
from functools import partial
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve_app.errors import HostNotAllowed
from serve_app.settings import AccessSettings

ANY = "*"
PROBES = frozenset({"/health", "/ready", "/metrics"})
"""Paths that probes of pods and Prometheus ask by an address not known beforehand."""
METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
EXPOSED = (
    *("x-request-id", "retry-after", "openai-processing-ms", "openai-poll-after-ms", "preference-applied"),
    *("server-timing", "content-range", "x-job-id", "x-job-model", "x-job-seed", "x-job-inference-time-s"),
    "idempotency-key",
)
"""What a page's script may read of an answer."""
SHOWN_CHARS = 64


class Origins:
    """The decisions. `trusts_keys`: every request needs an API key, so that strangers get nowhere."""

    def __init__(self, access: AccessSettings, *, trusts_keys: bool) -> None:
        self._hosts = frozenset(access.hosts)
        self._trusts_keys = trusts_keys
        self._cors = CORSMiddleware(
            _nothing,
            allow_origins=access.cors_origins,
            allow_methods=METHODS,
            allow_headers=("*",),  # clients send headers of their own: x-stainless-os
            allow_private_network=True,
            expose_headers=EXPOSED,
        )

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Raises HostNotAllowed for a request of a stranger's page to a server that asks for no key."""
        if self._trusts_keys or path in PROBES:
            return
        host = headers.get("host", "")
        name = _name_of(host)
        if not name or not (ANY in self._hosts or name in self._hosts or _is_loopback(name)):
            raise HostNotAllowed(
                f"The host '{host[:SHOWN_CHARS]}' is not one that this server answers to without API keys. Name it in "
                "access.hosts, or set API keys (access.keys_env or access.keys_file)."
            )
        if self._is_foreign(method, headers, host):
            raise HostNotAllowed(
                f"A page of another site ('{headers.get('origin', 'unknown')[:SHOWN_CHARS]}') may not use this server "
                "without API keys. Name its origin in access.cors_origins."
            )

    def preflight(self, method: str, headers: Headers) -> Response | None:
        """The answer to a preflight of a page that may call; None for any other request."""
        if method != "OPTIONS" or "access-control-request-method" not in headers:
            return None
        return self._cors.preflight_response(headers) if self._allows(headers.get("origin", "")) else None

    def marked(self, send: Send, headers: Headers) -> Send:
        """`send` that adds the headers of CORS to the answer, an error or a stream too."""
        return partial(self._cors.send, send=send, request_headers=headers) if self._cors.allow_origins else send

    def _allows(self, origin: str) -> bool:
        """Whether pages of this origin may call."""
        return bool(origin) and self._cors.is_allowed_origin(origin)

    def _is_foreign(self, method: str, headers: Mapping[str, str], host: str) -> bool:
        origin, site = headers.get("origin", ""), headers.get("sec-fetch-site", "")
        # browsers load a page's pictures without an Origin header
        if self._allows(origin or _origin_of(headers.get("referer", ""))):
            return False
        if site:
            # following a link only shows a page and starts no work
            follows = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
            return site == "cross-site" and not (follows and headers.get("sec-fetch-dest") == "document")
        if not origin:
            return False
        name = _name_of(origin.partition("://")[2])
        return not (name == _name_of(host) or _is_loopback(name))


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of a CORSMiddleware of which only the decisions are used."""


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
