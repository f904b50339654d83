"""The object store in a local folder (file://). Knows files, no HTTP; blocking calls run in threads.

Below the root an object lies under its key; `.tmp/` holds files being written, `.secret` what signs URLs.
"""

import contextlib
import errno
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

from serve_app.errors import AlreadyExists, ObjectNotFound, StorageFailed
from serve_app.storage.base import CHUNK_BYTES, ObjectInfo, check_key, content_type_of, folder_of, is_key, timed
from serve_app.storage.signer import URLSigner
from serve_app.tasks import StoredObject
from serve_app.threads import Pool

log = logging.getLogger(__name__)

PRIVATE = 0o600
MEDIA = "media/"
"""Keys whose files get `mode`. All other files are private."""
_LEFTOVER_S = 3600.0
_FILES = Pool("files", 16)
_TEMPORARY = re.compile(r"[0-9a-f]{32}")
_MAKE_FOLDER_TRIES = 8
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class LocalStore:
    """Objects as files below `root`, which is made where it is missing; with `read_only` nothing is made."""

    local = True

    def __init__(
        self, root: Path, *, public_url: str | None = None, mode: int = PRIVATE, read_only: bool = False
    ) -> None:
        self.root = root
        self._mode = mode
        self.signer = URLSigner(None)
        self._public_url = public_url.rstrip("/") if public_url else "/v1"
        self._temporary = root / ".tmp"
        with _writing(str(root)):
            if not root.is_dir():
                if read_only:
                    raise StorageFailed("There is no such folder.")
                root.parent.mkdir(parents=True, exist_ok=True)
                _make_folder(root, mode)
            if not read_only:
                _make_folder(self._temporary, PRIVATE)
                self._sweep()

    async def warm_up(self) -> None:
        await _FILES.run(self._sweep)

    @timed
    async def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        check_key(key)
        await _FILES.run(self._put, key, data, if_absent)
        return StoredObject(key=key, content_type=content_type_of(key), size=len(data))

    @timed
    async def get(self, key: str) -> bytes:
        with _reading(key):
            return await _FILES.run(self._path(key).read_bytes)

    async def open(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        with _reading(key):
            file = await _FILES.run(self._path(key).open, "rb", buffering=0)
            try:
                position = start
                while end is None or position < end:
                    wanted = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - position)
                    # pread: a read that outlives its cancelled caller must not move a file that reuses its descriptor
                    chunk = await _FILES.run(os.pread, file.fileno(), wanted, position)
                    if not chunk:
                        return
                    position += len(chunk)
                    yield chunk
            finally:
                file.close()

    @timed
    async def stat(self, key: str) -> ObjectInfo:
        with _reading(key):
            status = await _FILES.run(self._path(key).stat)
        if not stat.S_ISREG(status.st_mode):
            raise ObjectNotFound("There is no such object.")
        return _info(key, status)

    async def exists(self, key: str) -> bool:
        return await _FILES.run(self._path(key).is_file)

    @timed
    async def list(self, prefix: str) -> list[ObjectInfo]:
        folder = folder_of(prefix)
        return await _FILES.run(lambda: sorted(self._walk(folder), key=lambda info: info.key))

    async def list_names(self, prefix: str) -> "list[str]":
        with _reading(prefix):
            return sorted(entry.name for entry in await _FILES.run(self._entries, folder_of(prefix)))

    @timed
    async def delete(self, *keys: str) -> None:
        await _FILES.run(self._delete, {key: self._path(key) for key in keys})

    def url(self, key: str, *, expires_s: float) -> str:
        check_key(key)
        query = self.signer.sign(key, time.time() + expires_s)
        return f"{self._public_url}/{key}" + (f"?{query}" if query else "")

    def own_secret(self) -> bytes:
        """A random secret kept in the root, so that all replicas and every restart sign with the same one."""
        path = self.root / ".secret"
        with _writing(".secret"):
            if not path.exists():
                with contextlib.suppress(AlreadyExists):
                    self._put(".secret", secrets.token_bytes(32), if_absent=True)
            return path.read_bytes()

    def _path(self, key: str) -> Path:
        check_key(key)
        return self.root / key

    # --- blocking halves, run in threads ---

    def _put(self, key: str, data: bytes, if_absent: bool) -> None:
        mode = self._mode if key.startswith(MEDIA) else PRIVATE
        temporary = self._temporary / secrets.token_hex(16)
        with _writing(key):
            try:
                # private while it is written, whatever the umask, which belongs to the whole process
                created = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
                with os.fdopen(created, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fchmod(file.fileno(), mode)
                    os.fsync(file.fileno())
                _move(temporary, self.root / key, mode, if_absent)
            finally:
                temporary.unlink(missing_ok=True)

    def _walk(self, folder: str) -> Iterator[ObjectInfo]:
        """Objects below `folder`; what is deleted meanwhile is left out."""
        with _reading(folder):
            for entry in self._entries(folder):
                key = folder + entry.name
                if entry.is_dir():
                    yield from self._walk(key + "/")
                    continue
                with contextlib.suppress(FileNotFoundError):
                    yield _info(key, entry.stat())

    def _entries(self, folder: str) -> "list[os.DirEntry[str]]":
        try:
            with os.scandir(self.root / folder) as entries:
                return [entry for entry in entries if is_key(entry.name)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _delete(self, paths: dict[str, Path]) -> None:
        for key, path in paths.items():
            with _writing(key):
                with contextlib.suppress(*_ABSENT):
                    path.unlink()
                # and the folders that this empties, so that listings show what they would on S3; `.tmp` holds the root
                with contextlib.suppress(OSError):
                    os.removedirs(path.parent)

    def _sweep(self) -> None:
        """Removes what writers killed more than an hour ago left behind."""
        with _writing(".tmp"), os.scandir(self._temporary) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    ours = _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
                    if ours and entry.stat().st_mtime < time.time() - _LEFTOVER_S:
                        Path(entry.path).unlink()


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key=key, size=status.st_size, modified=status.st_mtime)


def _move(temporary: Path, target: Path, mode: int, if_absent: bool) -> None:
    """Gives a file its name, with `if_absent` if that is free. The operating system decides between two at once."""
    for attempt in range(_MAKE_FOLDER_TRIES):
        try:
            _make_folder(target.parent, mode)
            (os.link if if_absent else os.replace)(temporary, target)
            break
        except FileExistsError as exc:
            raise AlreadyExists("The key is taken.") from exc
        except FileNotFoundError:
            # a deletion removed the folder in between
            if attempt == _MAKE_FOLDER_TRIES - 1:
                raise
    with contextlib.suppress(FileNotFoundError):  # deleted again already
        _sync_folder(target.parent)


def _make_folder(folder: Path, mode: int) -> None:
    """Makes `folder` and those above it; a power cut must not take a new folder with what was put into it.

    Whoever may read a file of `mode` may enter and list the folders made for it.
    """
    if folder.is_dir():
        return
    _make_folder(folder.parent, mode)
    try:
        folder.mkdir(PRIVATE | 0o100)
    except FileExistsError:
        return
    folder.chmod(mode & 0o666 | (mode & 0o444) >> 2)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Syncs a folder, so that new names in it survive a power cut."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextlib.contextmanager
def _writing(key: str) -> Generator[None]:
    """Turns the operating system's errors into ours; the cause goes to the log, not to the caller."""
    try:
        yield
    except OSError as exc:
        log.error("storage: %s: %s", key, exc)
        full = exc.errno in _FULL
        raise StorageFailed("The media store is full." if full else "The media store does not work.") from exc


@contextlib.contextmanager
def _reading(key: str) -> Generator[None]:
    """Like `_writing`, and a file that is not there is ObjectNotFound."""
    with _writing(key):
        try:
            yield
        except _ABSENT as exc:
            raise ObjectNotFound("There is no such object.") from exc
