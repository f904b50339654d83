"""Who has a port of this machine."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.port import claim, who_listens
from tests.s3_server import free_port


@pytest.fixture
def shared_port() -> Iterator[int]:
    """A port that someone listens on as Serve's proxy does, ready to share it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_process_is_named(shared_port: int, host: str) -> None:
    found = who_listens(host, shared_port)
    assert found is not None
    assert found.startswith(f"process {os.getpid()} (")
    assert Path(sys.executable).name in found


def test_a_free_port() -> None:
    assert who_listens("127.0.0.1", free_port()) is None


def test_an_address_of_another_machine() -> None:
    with pytest.raises(OSError, match="Cannot assign"):
        who_listens("192.0.2.1", free_port())


def test_one_that_starts_has_the_port_before_it_listens() -> None:
    port = free_port()
    first = claim("127.0.0.1", port)
    assert first is not None
    assert claim("127.0.0.1", port) is None
    first.close()
    again = claim("127.0.0.1", port)
    assert again is not None
    again.close()
