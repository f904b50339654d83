"""Starts SGLang's diffusion workers: processes that import while it is not known yet what they will load.

Their imports and the replica's take equally long, and longer than most weights do: begun together they cost that once.
SGLang's own `launch_server` (0.5.23) starts the workers when all arguments are known, after the replica has imported
whatever they need.
"""

import os
import pickle
import subprocess
import sys
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any, cast

from serve_app.engines.sglang.processes import Processes
from serve_app.errors import EngineDied

MODULE = "serve_app.engines.sglang.worker"


class Workers:
    """One process for each of `count` GPUs, which imports until `load` tells it what to load."""

    def __init__(self, count: int) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._pipes: list[tuple[Any, Any]] = []
        for rank in range(count):
            (asked, ask), (ready, tell) = Pipe(duplex=False), Pipe(duplex=False)
            theirs = asked.fileno(), tell.fileno()
            # a replica may find its modules elsewhere than a new Python would
            run = f"import sys; sys.path[:] = {sys.path!r}; from {MODULE} import work; work({rank}, *{theirs})"
            self._processes.append(subprocess.Popen([sys.executable, "-c", run], pass_fds=theirs))  # noqa: S603 - ours
            asked.close()
            tell.close()  # the worker has the only other end, so that we see it close
            self._pipes.append((ask, ready))
        self.watched = Processes((process.pid, f"diffusion-{i}") for i, process in enumerate(self._processes))

    def close(self) -> None:
        """Ends them at once: they hold nothing that needs an orderly end."""
        self.watched.kill()
        for process in self._processes:
            process.poll()

    def load(self, server_args: Any) -> None:
        """Has them load what SGLang's ServerArgs say. The environment goes along: to make these may change it."""
        # in a plain pickle: by multiprocessing's own, tensors would cross as shared memory
        message = dict(os.environ), pickle.dumps(server_args)
        for ask, _ in self._pipes:
            with suppress(OSError), ask:  # one that has ended shows in wait_ready
                ask.send(message)

    def wait_ready(self) -> None:
        """Returns when all can work. Raises EngineDied where one ends before."""
        waiting: dict[Any, int] = {ready: rank for rank, (_, ready) in enumerate(self._pipes)}
        while waiting:
            for ready in cast(list[Any], wait(list(waiting))):
                rank = waiting.pop(ready)
                try:
                    told = ready.recv()
                except EOFError:
                    told = f"ended with {self._processes[rank].wait(60)}"
                if told != {"status": "ready"}:
                    raise EngineDied(f"The GPU worker {rank} could not load the model, see its log above: {told}")
                ready.close()
