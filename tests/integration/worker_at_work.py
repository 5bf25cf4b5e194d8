"""A worker's main loop beside a test: its queue, its networks, its sequencer."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ledger import worker
from ledger.settings import Settings


@contextmanager
def at_work(settings: Settings) -> Iterator[None]:
    """Until the block ends; then the worker lets go of the log."""
    stop = threading.Event()
    thread = threading.Thread(target=worker.serve, args=(settings, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
