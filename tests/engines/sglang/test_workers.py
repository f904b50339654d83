"""Worker processes that are there before it is known what they will load. They are real, and SGLang is played."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import torch

from serve_app.engines.sglang.workers import Workers
from serve_app.errors import EngineDied
from tests.engines.sglang.played import write_worker


@pytest.fixture(autouse=True)
def sglang(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_worker(monkeypatch, tmp_path)


@contextmanager
def workers(count: int) -> Generator[Workers]:
    started = Workers(count)
    try:
        yield started
    finally:
        started.close()


def test_each_loads_what_it_is_told_with_the_environment_of_then(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], below: Callable[[], list[psutil.Process]]
) -> None:
    first = next(iter(os.environ))
    with workers(2) as started:
        monkeypatch.setenv("PLAYED", "set while the arguments were made")
        # to change the first one takes it from its place, where setproctitle looks for it
        monkeypatch.setenv(first, f"{os.environ[first]} ")
        started.load({"model": "flux"})
        started.wait_ready()
        assert len(below()) == 2
        started.watched.check()
    said = sorted(capfd.readouterr().out.splitlines())
    assert said == [f"loads {rank} {{'model': 'flux'}} set while the arguments were made" for rank in (0, 1)]
    assert below() == []


def test_tensors_among_the_arguments_arrive(capfd: pytest.CaptureFixture[str]) -> None:
    """By multiprocessing's own pickle they would cross as memory that both share, which the worker may not open."""
    with workers(1) as started:
        started.load({"mean": torch.ones(2)})
        started.wait_ready()
    assert "tensor([1., 1.])" in capfd.readouterr().out


@pytest.mark.parametrize(("told", "words"), [("breaks", "worker 1 .* ended with 3"), ("fails", "worker . .*fails")])
def test_one_that_cannot_load_is_told(told: str, words: str, below: Callable[[], list[psutil.Process]]) -> None:
    with workers(2) as started:
        started.load(told)
        with pytest.raises(EngineDied, match=words):
            started.wait_ready()
    assert below() == []


REPLICA = """
import os, psutil, sys
sys.path[:] = {path!r}
from serve_app.engines.sglang.workers import Workers
workers = Workers(1)
print(psutil.Process().children()[0].pid, flush=True)
os._exit(1)
"""


def test_they_end_with_the_replica() -> None:
    """Also one that still waits to be told what to load."""
    said = subprocess.run([sys.executable, "-c", REPLICA.format(path=sys.path)], capture_output=True, text=True)
    with suppress(psutil.NoSuchProcess):
        worker = psutil.Process(int(said.stdout))
        while worker.status() != psutil.STATUS_ZOMBIE:  # who adopts it may never ask for it
            time.sleep(0.01)
