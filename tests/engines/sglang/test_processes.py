"""Worker processes: real ones, watched and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serve_app.engines.sglang.processes import FIRST, LAST, Processes, descendants, free_ports
from serve_app.errors import EngineDied

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pidfd and /proc are Linux's")
# the child ignores SIGTERM and has a child of its own, as a worker with its encoder has
STUBBORN = "import signal, subprocess, time; signal.signal(15, signal.SIG_IGN); subprocess.run(['sleep', '60'])"


def start(code: str = STUBBORN) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code])


def wait_for_child(pid: int) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := descendants(pid):
            return found[0]
        time.sleep(0.02)
    raise AssertionError("the child started no child")


async def test_one_that_ends_is_named() -> None:
    first, second = start(), start()
    processes = Processes([(first.pid, "worker 0"), (second.pid, "worker 1")])
    try:
        processes.check()
        os.kill(second.pid, signal.SIGKILL)
        with pytest.raises(EngineDied, match=r"The worker process worker 1 ended\."):
            await asyncio.wait_for(processes.watch(asyncio.Future()), 10)
    finally:
        processes.kill()
    first.wait()
    second.wait()


def test_all_that_they_started_ends_with_them() -> None:
    worker = start()
    grandchild = wait_for_child(worker.pid)
    processes = Processes([(worker.pid, "worker 0")])
    processes.kill()
    processes.kill()
    worker.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{grandchild}").exists() and time.monotonic() < deadline:
        if " Z " in Path(f"/proc/{grandchild}/stat").read_text():
            break  # ended; whoever adopted it has not asked for it yet
        time.sleep(0.01)
    else:
        assert not Path(f"/proc/{grandchild}").exists()
    with pytest.raises(EngineDied, match=r"The engine was closed\."):
        processes.check()


def test_descendants_of_a_process_without_children() -> None:
    lonely = subprocess.Popen(["sleep", "60"])
    assert descendants(lonely.pid) == []
    lonely.kill()
    lonely.wait()


def test_ports_are_free_different_and_out_of_the_way() -> None:
    ports = free_ports(3)
    assert len(set(ports)) == 3
    assert all(FIRST <= port < LAST for port in ports)
    assert not any(10002 <= port <= 19999 or 30000 <= port <= 31000 for port in ports)
