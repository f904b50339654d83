"""Ports for SGLang's sockets. They carry unauthenticated pickles, so they are bound to loopback only.

Ray hands 10002-19999 to its workers and SGLang's own defaults begin at 30000: two replicas on one machine must meet
neither those nor each other.
"""

from __future__ import annotations

import random
import socket
from itertools import islice

FIRST, LAST = 20000, 28900
"""SGLang adds up to 1000 to one of them for NCCL and must stay below 30000."""


def free_ports(count: int) -> list[int]:
    """`count` different ports that nothing listens on now; drawn at random, so that two replicas seldom race."""
    drawn = random.SystemRandom().sample(range(FIRST, LAST), 200)
    found = list(islice(filter(_is_free, drawn), count))
    if len(found) < count:
        raise OSError(f"no {count} free ports between {FIRST} and {LAST}")
    return found


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            # on every address, as SGLang probes, so that it takes the port as it stands
            probe.bind(("", port))
        except OSError:
            return False
    return True
