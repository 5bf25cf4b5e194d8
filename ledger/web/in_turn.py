"""Uploads wait in line to be opened: as many at once as there are decoders, none with a thread of its own, no line
without end."""

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from litestar import Request
from litestar.concurrency import sync_to_thread

from ledger.errors import Unavailable

WAITING = 16
"""Uploads, each held in memory."""

P = ParamSpec("P")
R = TypeVar("R")


class Line:
    """One for each application, as `state.line`."""

    def __init__(self, at_once: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._waiting = 0

    async def run(self, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._free.locked() and self._waiting >= WAITING:
            raise Unavailable(
                f"{WAITING} images wait to be opened already",
                code="decoders_busy",
                next_step="send it again in a few seconds",
            )
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            return await sync_to_thread(do, *args, **kwargs)
        finally:
            self._free.release()


async def in_turn(request: "Request[Any, Any, Any]", do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Do in a thread what opens an upload, once it is this request's turn. Raises Unavailable `decoders_busy`."""
    line: Line = request.app.state.line
    return await line.run(do, *args, **kwargs)
