"""Ray nodes on one machine that are as separate as machines: each has a network, processes and files of its own.

Needs namespaces of its own around the tests, where it may make networks: `make test-cluster` starts pytest in them.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

HOST = "10.77.0.1"
"""Where the nodes reach what runs beside them: Redis, S3, the tests themselves."""
NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
SHM_BYTES = 256 * 1024 * 1024
START = """
set -eu
echo made; read -r _                       # until the other end of the cable is in
ip link set lo up
ip address add "$1/24" dev eth0; ip link set eth0 up
mount --bind "$2" "$3"; mount -t tmpfs -o size=512m tmpfs /dev/shm
cd "$3"; export TMPDIR="$3"
shift 3
"$@" </dev/null >&2 &                        # not exec: the first process of a node buries the orphans of all others
wait
"""


class Lan:
    """A bridge that nodes are plugged into; this process sits at HOST."""

    def __init__(self) -> None:
        _ip("link", "set", "lo", "up")
        _ip("link", "add", "lan", "type", "bridge")
        _ip("address", "add", f"{HOST}/24", "dev", "lan")
        _ip("link", "set", "lan", "up")
        self._cables = itertools.count(1)

    def plug(self, pid: int) -> str:
        """Gives the network of process `pid` an eth0 on this bridge; the name of its other end."""
        cable = f"cable{next(self._cables)}"
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        _ip("link", "set", cable, "master", "lan", "up")
        return cable


class Node:
    """One Ray node at an address, with an environment and arguments of `ray start`.

    `folder` is what the node alone sees at `place`, which is the same path on every node, as a container's are.
    """

    def __init__(
        self, lan: Lan, address: str, folder: Path, place: Path, env: Mapping[str, str], arguments: list[str]
    ) -> None:
        self.address = address
        self.log = folder.with_suffix(".log")
        self._lan = lan
        self._folder = folder
        self._place = place
        self._env = dict(env)
        self._ray = ["ray", "start", "--block", "--disable-usage-stats", f"--node-ip-address={address}", *arguments]
        self._ray += [f"--temp-dir={place}", f"--object-store-memory={SHM_BYTES}"]
        self._process: subprocess.Popen[bytes] | None = None
        self._cable = ""

    def start(self) -> None:
        """Begins a boot from an empty disk; Ray comes up some seconds later."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        start = ["bash", "-c", START, self.address, self.address, str(self._folder), str(self._place), *self._ray]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*NAMESPACES, *start], env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"made\n", self.log.read_text()
        self._cable = self._lan.plug(self._process.pid)
        self._process.stdin.write(b"\n")
        self._process.stdin.close()
        self._process.stdout.close()

    def restart_if_ended(self) -> None:
        """As Kubernetes does: Ray gives its raylet 30 s to start, which a machine that is busy with more may need."""
        if self._process is not None and self._process.poll() is not None:
            self.kill()
            self.start()

    def kill(self) -> None:
        """Pulls the plug: no packet leaves the node any more, and everything on it is gone."""
        if self._process is None:
            return
        subprocess.run(["ip", "link", "delete", self._cable], check=False)  # gone already where the node ended itself
        self._process.kill()
        self._process.wait()
        self._process = None


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
