"""The gate in front of all work. It is shut while the server drains, and counts the requests still inside.

Work is a POST below /v1 that starts something. Reading a job, a file or the health is always allowed.
`diffusion-serve up` shuts the gate; see `Ingress.drain`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from serve_app.errors import Unavailable

RETRY_S = 5.0


@dataclass(slots=True)
class Gate:
    """`inside` counts admitted requests that have not ended."""

    shut: bool = False
    inside: int = 0

    def check(self) -> None:
        """Raises Unavailable while the gate is shut."""
        if self.shut:
            raise Unavailable("The server is draining: it takes no new work.", retry_after_s=RETRY_S)

    @contextmanager
    def passed(self) -> Generator[None]:
        """Counts one request from here to the last byte of its answer."""
        self.check()
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
