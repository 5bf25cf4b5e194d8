"""Ports that a test gives to a process it starts.

They lie below the range from which the system gives a port to whoever asks for any, and each of xdist's workers takes
its own: none is taken by another test between this and the process's listening.
"""

import itertools
import os
import socket

PER_WORKER = 1_000

_first = 10_000 + PER_WORKER * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 20)
_turn = itertools.count(os.getpid())  # two runs at once begin apart


def free_port() -> int:
    """The next one that nobody listens on, on this machine only."""
    for _ in range(PER_WORKER):
        port = _first + next(_turn) % PER_WORKER
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise RuntimeError(f"nothing is free from {_first} to {_first + PER_WORKER - 1}")
