"""What the console of `diffusion-serve up` leaves out of its workers' output, and what it never does."""

from __future__ import annotations

import pytest

from serve_app.console import is_news


@pytest.mark.parametrize(
    "line",
    [
        "INFO 2026-11-28 05:01:46,780 controller 274 -- Imported and built app 'diffusion' successfully.",
        "WARNING 2026-11-28 05:01:46,850 controller 274 -- Cannot deregister autoscaling state for deployment "
        "Deployment(name='sweeper', app='diffusion') because it is not registered",
    ],
)
def test_what_is_left_out(line: str) -> None:
    assert not is_news(line)


@pytest.mark.parametrize(
    "line",
    [
        "ERROR 2026-11-28 05:01:46,780 controller 274 -- Exception in Replica(id='a', deployment='image'): ...",
        "WARNING 2026-11-28 05:01:46,780 controller 274 -- Replica failed its health check",
        "Traceback (most recent call last):",
        "serve_app.errors.GenerationFailed: the worker died",
        "2026-11-28 05:02:19,083 INFO serve_app.access: POST /v1/images/generations 200 2.596 s",
        "DEMO PROFILE: text, images and video come from small checkpoints",
        "CUDA out of memory. INFO 2026-11-28 as a library says it",
    ],
)
def test_what_is_shown(line: str) -> None:
    assert is_news(line)
