"""Folders for files that live no longer than the process that makes them.

A process that is killed leaves its folder behind, and `sweep` removes it. A lock on the folder marks it as in use: the
operating system takes that back from a process however it ends, in whatever container it ran. A marker inside says that
the folder is ours: a name alone says nothing in a place where everyone puts files.
"""

import fcntl
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path

logger = logging.getLogger(__name__)

PREFIX = "diffusion-serve-"
MEMORY = Path("/dev/shm")  # noqa: S108
YOUNG_S = 60.0
"""A folder younger than this may be on the way to its lock."""
MARKER = ".diffusion-serve-scratch"
MARK = b"Scratch files of diffusion-serve. Once its process has ended, the next one removes this folder.\n"


class Scratch:
    """A folder of our own below `parent`, by default where temporary files go; gone after `close`."""

    def __init__(self, parent: Path | None = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock: int | None = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        (self.path / MARKER).write_bytes(MARK)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *error: object) -> None:
        self.close()


def memory() -> Path | None:
    """Where a folder lies in memory, on systems that have such a place."""
    return MEMORY if os.access(MEMORY, os.W_OK) else None


def sweep() -> None:
    """Removes the folders of processes that were killed. Safe at any time, by any number of processes."""
    for parent in {Path(tempfile.gettempdir()), memory() or Path(tempfile.gettempdir())}:
        for folder in parent.glob(f"{PREFIX}*"):
            if _is_left(folder):
                logger.info("removing %s, which a process that was killed left behind", folder)
                shutil.rmtree(folder, ignore_errors=True)


def _is_left(folder: Path) -> bool:
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # no folder, not ours to open, or gone
        return False
    try:
        status = os.fstat(opened)
        if status.st_uid != os.geteuid() or time.time() - status.st_mtime < YOUNG_S:
            return False
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _is_marked(opened)
    except OSError:  # in use, or without a marker
        return False
    finally:
        os.close(opened)


def _is_marked(folder: int) -> bool:
    """Whether the folder that is open as `folder` holds our marker, and no copy that someone linked there."""
    marker = os.open(MARKER, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
    try:
        return os.read(marker, len(MARK) + 1) == MARK
    finally:
        os.close(marker)
