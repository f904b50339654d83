"""Makes the imports of SGLang, which take half of a start, a third shorter."""

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Generator[None]:
    """No garbage collection within: imports leave hardly any, and each one walks through all that is there.

    Measured on SGLang 0.5.23's diffusion modules, 2 CPU cores, three runs each: 13.1 s with it, 8.9 s without.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
