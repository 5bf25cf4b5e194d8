"""Waiting for what another thread or process does, with an end."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T | None], timeout: float = 15.0, told: Callable[[], str] = str) -> T:
    """What `condition` returns once that counts as true; `told` says what stands there if it never does."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"did not happen within {timeout} s\n{told()}"
        time.sleep(0.02)
    return found
