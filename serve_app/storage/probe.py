"""Tries out a store before a replica counts as healthy: with a wrong key each request would fail at its end."""

from __future__ import annotations

import secrets

from serve_app.errors import ObjectNotFound, StorageFailed
from serve_app.storage.base import ObjectStore


async def check_store(store: ObjectStore, root: str) -> None:
    """Writes, reads and deletes a small object. Raises StorageFailed that names `root` and the cause, for operators."""
    key, data = f"probe/{secrets.token_hex(8)}", secrets.token_bytes(8)
    try:
        await store.put(key, data)
        read = await store.get(key)
        await store.delete(key)
    except (StorageFailed, ObjectNotFound) as error:
        cause = f" {error.__cause__}" if error.__cause__ else ""
        raise StorageFailed(f"media.root '{root}' does not work: {error.message}{cause}") from error
    if read != data:
        raise StorageFailed(f"media.root '{root}' does not work: it gives back other bytes than were written.")
