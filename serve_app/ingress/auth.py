"""API keys: who is asking, by the Bearer token of a request.

Keeps SHA-256 digests only, and compares the digest of what came with every one of them in constant time. Knows nothing
of what a caller may do: that is decided by the owner part of each key and job.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from starlette.datastructures import Headers

from serve_app.environment import secret
from serve_app.errors import Unauthorized
from serve_app.ingress.services import PUBLIC, Caller
from serve_app.settings import AccessSettings

OPEN_PATHS = frozenset({"/", "/health", "/ready", "/metrics", "/openapi.json", "/docs"})
OPEN_FOLDERS = ("/docs/", "/page/")
MEDIA_PATH = "/v1/media/"
SHA256_HEX = re.compile(r"[0-9A-Fa-f]{64}")


class Keys:
    """The valid keys: the caller's name by the key's SHA-256 digest. Two keys may share a name, to change one."""

    def __init__(self, names: Mapping[bytes, str]) -> None:
        self._callers = {digest: Caller(owner=owner_of(name), name=name) for digest, name in names.items()}

    @classmethod
    def load(cls, access: AccessSettings) -> Self | None:
        """The keys that the settings name; None where they name none. ValueError for what cannot be read: a server
        that was told to ask for keys must not start without them."""
        names: dict[bytes, str] = {}
        if access.keys_env is not None:
            names |= _parse(secret(access.keys_env) or "", ",", f"environment variable {access.keys_env}", hashed=False)
        if access.keys_file is not None:
            names |= _parse(Path(access.keys_file).read_text("utf-8"), "\n", access.keys_file, hashed=True)
        return cls(names) if names else None

    def caller(self, authorization: str | None) -> Caller:
        """Who holds the key in an Authorization header. Unauthorized where there is none that is valid."""
        scheme, _, key = (authorization or "").strip().partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise Unauthorized("No API key: send it as 'Authorization: Bearer KEY'.")
        asked = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        found = None
        # compares with every key, so that the time does not reveal which one matched
        for digest, caller in self._callers.items():
            if hmac.compare_digest(digest, asked):
                found = caller
        if found is None:
            raise Unauthorized("The API key is not valid.")
        return found


def owner_of(name: str) -> str:
    """The safe string that stands for a caller in keys of the object store."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _parse(text: str, separator: str, source: str, *, hashed: bool) -> dict[bytes, str]:
    names: dict[bytes, str] = {}
    for line in text.split(separator):
        if not (entry := line.strip()) or (hashed and entry.startswith("#")):
            continue
        name, colon, value = (part.strip() for part in entry.partition(":"))
        if not (name and colon and value):  # the entry is not shown: it may hold a key
            raise ValueError(f"{source}: an entry is not 'name:{'sha256-hex' if hashed else 'key'}'")
        if hashed and not SHA256_HEX.fullmatch(value):
            raise ValueError(f"{source}: the hash of '{name}' is not a SHA-256 in hex")
        names[bytes.fromhex(value) if hashed else hashlib.sha256(value.encode()).digest()] = name
    if not names:
        raise ValueError(f"{source}: holds no API key")
    return names


def caller_of(keys: Keys | None, path: str, headers: Headers, query: bytes) -> Caller:
    """Who sends this request. Raises Unauthorized where a key is needed: not for open paths, nor for signed media URLs,
    which /v1/media checks.
    """
    if keys is None or path in OPEN_PATHS or path.startswith(OPEN_FOLDERS):
        return PUBLIC
    authorization = headers.get("authorization")
    if authorization is None and path.startswith(MEDIA_PATH) and b"signature=" in query:
        return PUBLIC
    return keys.caller(authorization)
