"""Our application as its users start it: `serve run` on a deployments file, in a process of its own."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from serve_app.engines.sglang.processes import descendants

ROOT = Path(__file__).parents[2]


class App:
    """`serve run` of `config`, which must name a port of its own; logs go to `log`.

    Serve shares a port with whoever listens there already: only the one that calls itself as we named it is ours.
    """

    def __init__(self, config: dict[str, Any], folder: Path, log: Path, *, gpus: str | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "deployments.yaml"
        self.instance = secrets.token_hex(8)
        path.write_text(yaml.safe_dump(_named(config, self.instance)))
        self.base = f"http://127.0.0.1:{config['http_options']['port']}"
        # Ray's sockets lie below it, and the path of a socket has 107 bytes at most
        self._ray = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        env = os.environ | {
            # a Ray of its own beside others on this machine; the engine's processes at the usual priority
            "RAY_ADDRESS": "local",
            "RAY_TMPDIR": self._ray,
            "RAY_worker_niceness": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        if gpus is not None:
            env["CUDA_VISIBLE_DEVICES"] = gpus
        # a shell that runs us in its background has it ignored, which the application would inherit: see `stop`
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ray.serve.scripts", "run", str(path)],
                cwd=ROOT,
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._log = log

    def wait_ready(self, wait_s: float) -> set[str]:
        """The kinds that are not ready when all are, or one failed, or the time is up, or the process has ended.

        Raises RuntimeError where another application answers at our port.
        """
        deadline, waiting = time.monotonic() + wait_s, {"everything"}
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(httpx.HTTPError):
                self._check_ours()
                answer = httpx.get(f"{self.base}/ready", timeout=10)
                if answer.status_code == 200:
                    return set()
                waiting = set(re.findall(r"text|image|video", answer.text)) or waiting
                if re.search(r'"state":\s*"failed"', answer.text):
                    break  # Serve has started it three times
            time.sleep(1)
        return waiting

    def _check_ours(self) -> None:
        answer = httpx.get(f"{self.base}/health", timeout=10)
        if answer.status_code == 200 and (found := answer.json().get("instance")) != self.instance:
            raise RuntimeError(f"{self.base} is answered by another application ({found}), which was there before")

    def stop(self) -> list[int]:
        """Ends it as Ctrl-C does; what is left after 40 s is killed, and its process ids are the answer."""
        below = descendants(self.process.pid)
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(40)
        time.sleep(1)
        left = [pid for pid in (*below, self.process.pid) if lives(pid)]
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self._ray, ignore_errors=True)
        return left


def _named(config: dict[str, Any], instance: str) -> dict[str, Any]:
    return config | {
        "applications": [
            each | {"args": (each.get("args") or {}) | {"instance": instance}} for each in config["applications"]
        ]
    }


def lives(pid: int) -> bool:
    """Whether there is such a process, one that only waits for its parent to notice its end aside."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
