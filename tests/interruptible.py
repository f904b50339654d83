"""A command that Ctrl-C can stop, wherever the tests run."""

from __future__ import annotations

import sys

_AS_IN_A_TERMINAL = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
)


def interruptible(*command: str) -> list[str]:
    """`command` with SIGINT as it is in a terminal: a shell that has the tests in its background ignores it."""
    return [sys.executable, "-c", _AS_IN_A_TERMINAL, *command]
