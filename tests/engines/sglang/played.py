"""Stands in for modules of SGLang, which is not installed where there is no GPU."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def install(monkeypatch: pytest.MonkeyPatch, modules: Mapping[str, dict[str, Any]]) -> None:
    """Has `import` find these modules, each with what it holds."""
    for name, values in modules.items():
        parts = name.split(".")
        for end in range(1, len(parts)):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(parts[end - 1]))
        module = ModuleType(name)
        module.__dict__.update(values)
        monkeypatch.setitem(sys.modules, name, module)


BOOTSTRAP = """
import os, setproctitle, sys, time
from collections import namedtuple

SchedulerProcessSpec = namedtuple("SchedulerProcessSpec", "local_rank rank server_args pipe_writer")

def bootstrap_scheduler_process(spec):
    arguments = spec.server_args.materialize()
    setproctitle.setproctitle(f"scheduler {spec.rank}")
    os.write(1, f"loads {spec.rank} {arguments} {os.environ.get('PLAYED')}\\n".encode())
    if arguments == "breaks" and spec.rank == 1:
        sys.exit(3)
    spec.pipe_writer.send({"status": "fails" if arguments == "fails" else "ready"})
    time.sleep(600)
"""
TITLES = """
import ctypes, functools, os

@functools.cache
def find():  # as setproctitle, which names nothing where it does not find the environment behind the command line
    begin = int(open("/proc/self/stat").read().rpartition(")")[2].split()[47])
    return begin == ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")[0]

def getproctitle():
    find()

def setproctitle(title):
    if not find():
        os.write(1, f"{title} has no name\\n".encode())
"""


def write_worker(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """What a worker process, which is a real one, finds as SGLang. It loads, or fails as its arguments say."""
    files = {
        "runtime/managers/worker_bootstrap": BOOTSTRAP,
        "runtime/managers/scheduler": "",
        "registry": "get_registered_pipeline_names = list",
    }
    (folder / "setproctitle.py").write_text(TITLES)
    for name, text in files.items():
        path = folder / "sglang/multimodal_gen" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(folder))
