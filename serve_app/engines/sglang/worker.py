"""What runs in the process of one of SGLang's diffusion workers; workers.py starts it."""

import importlib
import os
import sys
from multiprocessing.connection import Connection
from typing import Any


class LateArguments:
    """Stands where SGLang's bootstrap expects its ServerArgsPayload: imports what it can before it waits for them."""

    def __init__(self, asked: "Connection[Any, Any]") -> None:
        self._asked = asked

    def materialize(self) -> Any:
        # what a worker needs whatever it loads
        importlib.import_module("sglang.multimodal_gen.runtime.managers.scheduler")
        importlib.import_module("sglang.multimodal_gen.registry").get_registered_pipeline_names()
        try:
            environment, server_args = self._asked.recv()
        except EOFError:
            sys.exit(0)  # the replica has given up, and says why
        os.environ.update(environment)
        return server_args


def work(rank: int, asked: int, told: int) -> None:
    """Works until it is ended. What to load comes by the pipe `asked`, and `told` takes how that went."""
    from sglang.multimodal_gen.runtime.managers.worker_bootstrap import (
        SchedulerProcessSpec,
        bootstrap_scheduler_process,
    )

    arguments: Any = LateArguments(Connection(asked))
    bootstrap_scheduler_process(SchedulerProcessSpec(rank, rank, arguments, Connection(told)))
