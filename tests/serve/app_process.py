"""The app in processes of its own, to be killed. Run as a module it is the app, `AppProcess` is what starts that."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from serve_app.engines.sglang.processes import descendants

START_S = 360.0
STOP_S = 120.0


class AppProcess:
    """A whole app (Ray, Serve and the replicas) at one port; `log` is what all of its processes have said.

    `wrapper` goes before the command line, such as an `unshare` that gives it a file system of its own.
    """

    def __init__(self, args: dict[str, Any], log: Path, *, env: dict[str, str], wrapper: tuple[str, ...] = ()) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._args = args
        self.env = {**os.environ, **env}
        self._wrapper = wrapper
        # a short path: Ray's Unix sockets lie below it, and theirs are limited to 107 bytes
        self._temporary = Path(tempfile.mkdtemp(prefix="ray-"))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when the app is ready."""
        deadline = time.monotonic() + START_S
        self._spawn()
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                # Ray gives its raylet 30 s, which a machine that is busy with other tests may need
                assert "timed out during startup" in self.tail(), f"the app ended:\n{self.tail()}"
                self._spawn()
            if self.answers("/ready"):
                return
            time.sleep(0.25)
        raise AssertionError(f"the app is not ready after {START_S} s:\n{self.tail()}")

    def _spawn(self) -> None:
        config = {"port": self.port, "temporary": str(self._temporary), "args": self._args}
        command = [*self._wrapper, sys.executable, "-m", "tests.serve.app_process", json.dumps(config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self.env)

    def kill(self) -> None:
        """SIGKILL to every process of it at once, as a power cut would."""
        if self.process is None:
            return
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            _kill(pid)
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        """Ends it as an operator would: what runs is finished and what is kept in memory is written."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=STOP_S) == 0, self.tail()
        self.process = None

    def kill_replica(self, deployment: str) -> None:
        """SIGKILL to the one replica of a deployment."""
        assert self.process is not None
        [pid] = [pid for pid in descendants(self.process.pid) if _is_replica(pid, deployment)]
        _kill(pid)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def answers(self, path: str) -> bool:
        try:
            return httpx.get(self.base_url + path, timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


def wait_until(check: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.1)


def replicas(pid: int, deployment: str) -> int:
    """The processes below `pid` that are replicas of a deployment, those that start or stop too."""
    return sum(_is_replica(each, deployment) for each in descendants(pid))


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _is_replica(pid: int, deployment: str) -> bool:
    """By its title, which Ray makes `ray::ServeReplica:<app>:<deployment>`, and `.<method>` while it is busy."""
    try:
        title = (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")[0].decode()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return title.split(".")[0].strip() == f"ray::ServeReplica:diffusion:{deployment}"


def main(config: dict[str, Any]) -> None:
    import ray
    from ray import serve

    from serve_app.app import build
    from serve_app.server import prepare_ray
    from serve_app.settings import Settings

    prepare_ray()
    ray.init(include_dashboard=False, num_cpus=8, _temp_dir=config["temporary"])
    serve.start(http_options={"host": "127.0.0.1", "port": config["port"]})
    serve.run(build(Settings.model_validate(config["args"])), name="diffusion", route_prefix="/")
    signal.signal(signal.SIGTERM, lambda *_: None)  # Ray's own would end this process at once
    signal.pause()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
