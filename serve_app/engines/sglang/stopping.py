"""Stops a generation that nobody waits for: at the next denoising step, in the worker process.

SGLang (0.5.23) has no call for it, but calls plugins: its workers run `register` (pyproject.toml, entry points), which
puts `look` before each step. The wish crosses as an empty file in the folder that both sides share. With several GPUs
the first one looks for all: a rank that went on alone would wait in its next collective for ever.
"""

import logging
import os
from pathlib import Path
from typing import Any

FOLDER = "DIFFUSION_SERVE_STOPS"
"""The environment variable that tells a worker where to look."""
STEP = "sglang.multimodal_gen.runtime.pipelines_core.stages.denoising.DenoisingStage._prepare_step_state"
WORDS = "stopped: nobody waits for it"
RUNTIME = "sglang.multimodal_gen.runtime"
TELLING = {f"{RUNTIME}.managers.gpu_worker": True, f"{RUNTIME}.pipelines_core.stages.base": False}
"""The loggers that report what a step raised, each with a traceback; a line of the first one is enough."""


class Stopped(Exception):
    """SGLang answers the request with these words as its error and takes the next one."""


def register() -> None:
    """Called by SGLang in each worker process before it loads the model."""
    from sglang.multimodal_gen.runtime.platforms.plugins import HookRegistry, HookType

    if FOLDER in os.environ:
        HookRegistry.register(STEP, look, HookType.BEFORE)
        for name in TELLING:
            logging.getLogger(name).addFilter(shorten)


def look(stage: object, ctx: object, batch: Any, *args: object, **kwargs: object) -> None:
    """Raises Stopped where the request of `batch` is to end, on all ranks at the same step."""
    from sglang.multimodal_gen.runtime.distributed.parallel_state import get_world_group

    world, wish = get_world_group(), path(Path(os.environ[FOLDER]), str(batch.request_id)).exists()
    if wish if world.world_size == 1 else world.broadcast_object(wish):  # the first rank's wish
        raise Stopped(WORDS)


def shorten(record: logging.LogRecord) -> bool:
    """Whether to log it: a stop is one line and no traceback, since nothing went wrong."""
    if not record.exc_info or not isinstance(record.exc_info[1], Stopped):
        return True
    record.exc_info = None
    return TELLING[record.name]


def path(folder: Path, request_id: str) -> Path:
    """The file that stands while the request is to end."""
    return folder / f"{request_id}.stop"
