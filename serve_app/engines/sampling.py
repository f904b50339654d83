"""Which sampling parameters of a text task an engine leaves out of account. Pure."""

from __future__ import annotations

from collections.abc import Collection

from serve_app.tasks import TextTask


def name_ignored(task: TextTask, honoured: Collection[str] = ()) -> tuple[str, ...]:
    """The parameters with which the caller asked for sampling, but those `honoured`. Greedy values ask for nothing."""
    asked = {
        "temperature": task.temperature not in (None, 0, 1),
        "top_p": task.top_p not in (None, 1),
        "top_k": task.top_k not in (None, 0, 1, -1),
        "seed": task.seed is not None,
    }
    return tuple(name for name, was in asked.items() if was and name not in honoured)
