"""The wish to stop, as a worker finds it. That a worker does stop is seen by tests/gpu."""

from __future__ import annotations

import logging
from importlib.metadata import entry_points

import pytest

from serve_app.engines.sglang import stopping


def test_sglang_finds_the_plugin() -> None:
    (found,) = entry_points(group="sglang.multimodal_gen.plugins", name="diffusion-serve-stopping")
    assert found.load() is stopping.register


@pytest.mark.parametrize("raised", [stopping.Stopped(stopping.WORDS), ValueError("broken")])
def test_a_stop_is_one_line_of_log_and_a_fault_keeps_its_tracebacks(
    raised: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    loggers = [logging.getLogger(name) for name in stopping.TELLING]
    for logger in loggers:
        logger.addFilter(stopping.shorten)
        try:
            raise raised
        except Exception as error:
            logger.error("Error: %s", error, exc_info=True)
        logger.removeFilter(stopping.shorten)
    lines = [(record.getMessage(), record.exc_info is not None) for record in caplog.records]
    if isinstance(raised, ValueError):
        assert lines == [("Error: broken", True)] * 2
    else:
        assert lines == [("Error: stopped: nobody waits for it", False)]
