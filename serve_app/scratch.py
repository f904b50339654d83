"""Folders for files that live no longer than the process that makes them.

A process that is killed leaves its folder behind, and `sweep` removes it. A file in it marks the folder as ours: a name
alone says nothing in a place where everyone puts files. A lock on that file marks the folder as in use: the operating
system takes it back from a process however it ends, in whatever container it ran.
"""

import fcntl
import logging
import os
import shutil
import stat
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)

PREFIX = "diffusion-serve-"
MEMORY = Path("/dev/shm")  # noqa: S108
MARKER = ".diffusion-serve-lock"
MARK = b"Scratch files of diffusion-serve. Once its process has ended, the next one removes this folder.\n"


class Scratch:
    """A folder of our own below `parent`, by default where temporary files go; gone after `close`."""

    def __init__(self, parent: Path | None = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._marker = (self.path / MARKER).open("xb", buffering=0)
        fcntl.flock(self._marker, fcntl.LOCK_SH)
        self._marker.write(MARK)  # under the lock: an empty marker is nobody's to judge

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._marker.close()

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
    """Whether `folder` is this user's, holds our marker (and no link to one), and nobody holds its lock."""
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return False
        with os.fdopen(os.open(folder / MARKER, os.O_RDONLY | os.O_NOFOLLOW), "rb") as marker:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return marker.read(len(MARK) + 1) == MARK
    except OSError:  # in use, gone, or without a marker
        return False
