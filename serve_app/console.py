"""What `diffusion-serve up` shows of Ray and Serve: warnings, errors and the application's own lines.

The rest, some hundred lines of a start, stays in the log files. Knows no deployments file.
"""

import logging
import re
from typing import Any

from ray._private.ray_logging import global_worker_stdstream_dispatcher as worker_output
from ray._private.worker import global_worker, print_to_stdstream
from ray.serve._private.constants import SERVE_LOGGER_NAME  # the import of Serve sets its loggers up

RAYS_OWN = "ray_print_logs"
"""Ray's name for what prints the workers' output."""
SERVES_INFO = re.compile(r"INFO \d{4}-\d{2}-\d{2} ")
"""How Serve's own lines begin; ours begin with the date, a library's with anything else."""
HARMLESS = ("because it is not registered",)
"""A warning for each deployment without autoscaling, as the sweeper is, at its start and its end."""


def log_less_here() -> None:
    """Quiets what Ray and Serve log in this process. Call it before Ray starts."""
    for name in ("ray", SERVE_LOGGER_NAME):
        logging.getLogger(name).setLevel(logging.WARNING)
    # says at each start, as a warning, that Ray's default is in force
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)


def show_less_of_workers() -> str:
    """Leaves out of the workers' output what is no news; gives the folder that holds all of it. Call it with Ray up."""
    worker_output.remove_handler(RAYS_OWN)
    worker_output.add_handler(RAYS_OWN, _print)
    node: Any = global_worker.node
    return node.get_logs_dir_path()


def is_news(line: str) -> bool:
    """Whether somebody who looks at the console wants to see this line of a worker."""
    return not SERVES_INFO.match(line) and not any(phrase in line for phrase in HARMLESS)


def _print(batch: dict[str, Any]) -> None:
    if lines := [line for line in batch["lines"] if is_news(line)]:
        print_to_stdstream({**batch, "lines": lines}, ignore_prefix=False)
