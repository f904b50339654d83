"""What runs in the process of one of SGLang's diffusion workers; workers.py starts it."""

import importlib
import os
import pickle
import sys
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from serve_app.engines.imports import uncollected


class LateArguments:
    """Stands where SGLang's bootstrap expects its ServerArgsPayload: imports what it can before it waits for them.

    `importing` ends when that is done.
    """

    def __init__(self, asked: "Connection[Any, Any]", importing: ExitStack) -> None:
        self._asked = asked
        self._importing = importing

    def materialize(self) -> Any:
        # what a worker needs whatever it loads
        importlib.import_module("sglang.multimodal_gen.runtime.managers.scheduler")
        importlib.import_module("sglang.multimodal_gen.registry").get_registered_pipeline_names()
        self._importing.close()
        try:
            environment, server_args = self._asked.recv()
        except EOFError:
            sys.exit(0)  # the replica has given up, and says why
        os.environ.update(environment)
        return pickle.loads(server_args)  # noqa: S301 - of our own replica


def work(rank: int, asked: int, told: int) -> None:
    """Works until it is ended. What to load comes by the pipe `asked`, and `told` takes how that went."""
    importing = ExitStack()
    importing.enter_context(uncollected())
    # SGLang names its workers by it. It looks for the environment's place behind the command line once, and names
    # nothing where a variable has been changed before.
    importlib.import_module("setproctitle").getproctitle()
    from sglang.multimodal_gen.runtime.managers.worker_bootstrap import (
        SchedulerProcessSpec,
        bootstrap_scheduler_process,
    )

    arguments: Any = LateArguments(Connection(asked), importing)
    bootstrap_scheduler_process(SchedulerProcessSpec(rank, rank, arguments, Connection(told)))
