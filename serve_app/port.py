"""Finds out who listens on a TCP port of this machine. Knows sockets and processes, no Ray."""

import errno
import socket
from contextlib import suppress

import psutil


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
    """The process that listens on the port, as far as this user may see."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", None) == port
            if listens and connection.pid:
                process = psutil.Process(connection.pid)
                return f"process {process.pid} ({' '.join(process.cmdline())[:100] or process.name()})"
    return "a process of another user"
