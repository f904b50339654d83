"""Finds out who listens on a TCP port of this machine. Knows sockets and /proc, no Ray."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LISTEN = "0A"


def claim(host: str, port: int) -> socket.socket | None:
    """Reserves the port for this process until the socket is closed. None if another process has reserved it.

    It binds only those who call this: the reservation is an abstract Unix socket (unix(7)), which the system frees
    however the process ends.
    """
    claimed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claimed.bind(f"\0diffusion-serve {host}:{port}")
    except OSError:
        claimed.close()
        return None
    return claimed


def who_listens(host: str, port: int) -> str | None:
    """The process that has the port, in words; None where it is free.

    Raises OSError where the address is not one of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # with this option only a listening socket blocks the port, not connections left by an earlier server
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _holder(port)
        raise


def _holder(port: int) -> str:
    inodes = set(_listeners(port))
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # gone, or another user's
            if any(_inode(descriptor) in inodes for descriptor in (process / "fd").iterdir()):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return f"process {process.name} ({command[:100] or (process / 'comm').read_text().strip()})"
    return "a process of another user"


def _listeners(port: int) -> Iterator[str]:
    """The inodes of the sockets that listen on `port` (proc(5))."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _inode(descriptor: Path) -> str:
    with suppress(OSError):
        return os.readlink(descriptor).removeprefix("socket:[").removesuffix("]")
    return ""
