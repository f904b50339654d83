"""Signed URLs for objects that our own ingress serves. Knows keys and times, no HTTP framework."""

import hashlib
import hmac
import time
from collections.abc import Mapping
from urllib.parse import urlencode

from serve_app.errors import Forbidden


class URLSigner:
    """HMAC-SHA256 over key and expiry. Without a secret nothing is signed and everything verifies."""

    def __init__(self, secret: bytes | None) -> None:
        self._secret = secret

    def sign(self, key: str, expires: float) -> str:
        """The query that opens `key` until `expires` (Unix seconds); empty where URLs are not signed."""
        if self._secret is None:
            return ""
        until = str(int(expires))
        return urlencode({"expires": until, "signature": self._signature(self._secret, key, until)})

    def verify(self, key: str, query: Mapping[str, str]) -> None:
        """Raises Forbidden unless `query` was made by `sign` for this key and its time is not over."""
        if self._secret is None:
            return
        until = query.get("expires", "")
        given = query.get("signature", "").encode()
        # compared before the time is looked at, and as bytes: compare_digest refuses strings that are not ASCII
        if not hmac.compare_digest(self._signature(self._secret, key, until).encode(), given):
            raise Forbidden("The signature of this URL does not match.")
        if int(until) < time.time():
            raise Forbidden("This URL has expired.")

    @staticmethod
    def _signature(secret: bytes, key: str, until: str) -> str:
        return hmac.new(secret, f"{key}\n{until}".encode(errors="surrogatepass"), hashlib.sha256).hexdigest()
