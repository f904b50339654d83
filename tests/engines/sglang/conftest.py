from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest


@pytest.fixture
def below() -> Callable[[], list[psutil.Process]]:
    """What this process has started since; other tests' processes may still run."""
    before = psutil.Process().children()
    return lambda: [child for child in psutil.Process().children() if child not in before]
