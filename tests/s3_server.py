"""A real S3 server on loopback: `rclone serve s3` over a folder, started and stopped by tests."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sysconfig
import time
from pathlib import Path

KEY, SECRET = "testkey", "testsecret"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 30.0, host: str = "127.0.0.1") -> None:
    """Returns when something accepts connections at host:port; AssertionError if `process` ends or time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended with {process.returncode}"
        try:
            socket.create_connection((host, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"nothing listens on port {port} after {seconds} s")


class S3Server:
    """`endpoint`, `bucket`, the `env` that a client needs, and the folder whose subfolders are the buckets.

    The port stays the same over `stop` and `start`, so that an outage can be played. With `log` the server writes there
    what it is asked.
    """

    def __init__(self, folder: Path, bucket: str = "bucket", host: str = "127.0.0.1", log: Path | None = None) -> None:
        self.folder = folder
        self.log = log
        self.host = host
        self.bucket = bucket
        self.port = free_port()
        self.endpoint = f"http://{host}:{self.port}"
        self.env = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }
        self.process: subprocess.Popen[bytes] | None = None
        (folder / bucket).mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Starts the server and waits until it answers; nothing where it runs already."""
        if self.process is not None:
            return
        command = [
            shutil.which("rclone", path=sysconfig.get_path("scripts")) or "rclone",
            *("serve", "s3", "--auth-key", f"{KEY},{SECRET}", "--addr", f"{self.host}:{self.port}"),
            # not --dir-cache-time 0s: every request then takes longer than the one before, up to half a minute
            *("--config", "", str(self.folder)),
            *(("--log-level", "DEBUG", "--log-file", str(self.log)) if self.log else ("--log-level", "ERROR")),
        ]
        self.process = subprocess.Popen(command)
        wait_for_port(self.port, self.process, host=self.host)

    def stop(self) -> None:
        """Kills the server outright, as an outage would; the objects stay."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
