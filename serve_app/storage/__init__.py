"""The object store that holds media, jobs and the ledger: a local folder or S3, behind one Protocol."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from serve_app.environment import s3_access, secret
from serve_app.settings import Settings
from serve_app.storage.base import ObjectStore
from serve_app.storage.local import LocalStore
from serve_app.storage.signer import URLSigner


def open_store(settings: Settings, *, read_only: bool = False) -> ObjectStore:
    """The store that resolved settings name; URLs of local objects are signed where API keys are on.

    With `read_only` it makes nothing and signs nothing. Raises StorageFailed.
    """
    media = settings.media
    address = urlsplit(media.root)
    if address.scheme == "s3":
        from serve_app.storage.s3 import S3Store  # takes 0.3 s to import, which a local store need not pay

        return S3Store(address.netloc, address.path, s3_access(), public_url=media.public_url)
    root = Path(unquote(address.path))
    store = LocalStore(root, public_url=media.public_url, mode=media.mode, read_only=read_only)
    if not read_only and (settings.access.keys_env or settings.access.keys_file):
        written = secret(media.signing_key_env)
        store.signer = URLSigner(written.encode() if written else store.own_secret())
    return store
