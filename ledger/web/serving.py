"""Running a web application on a socket that somebody else opened, until it is told to stop."""

import asyncio
import socket
import threading
from collections.abc import Sequence
from typing import Any, Literal

import uvicorn
from litestar import Litestar
from uvicorn.protocols.http.h11_impl import H11Protocol

Expected = Literal["headers", "body"]

SECONDS: dict[Expected, float] = {"headers": 10.0, "body": 120.0}
"""How long a request may take to arrive: its headers, then its body. `deploy/Caddyfile` is stricter."""


class ImpatientProtocol(H11Protocol):
    """Hangs up on whoever sends so slowly that the connection is all they want (slowloris).

    The server's own timeout is for silence between two requests, and a byte now and then keeps it away. Nothing is
    counted while we answer. Headers are at most 64 KiB: more is refused by h11.
    """

    _expected: Expected | None = None
    _hanging_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect("headers")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._expect("headers")
        else:
            self._expect("body" if self.cycle.more_body else None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        super().connection_lost(exc)

    def _expect(self, what: Expected | None) -> None:
        """The clock runs from when this was first expected, however much of it has come since."""
        if what == self._expected:
            return
        if self._hanging_up is not None:
            self._hanging_up.cancel()
        self._expected = what
        self._hanging_up = None if what is None else self.loop.call_later(SECONDS[what], self.transport.close)


def serve_app(
    app: Litestar,
    listener: socket.socket,
    stop: threading.Event,
    *,
    patience: int,
    proxies: Sequence[str] = (),
    **options: Any,
) -> None:
    """Serve until `stop` is set, then finish what is being answered within `patience` seconds. Blocks.

    `options` are uvicorn's further ones. The server says nothing of itself. X-Forwarded-For and -Proto are believed of
    the addresses and networks in `proxies` alone: of anybody else they would be a way around every limit.
    """
    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        timeout_graceful_shutdown=patience,
        **options,
    )
    server = uvicorn.Server(config)

    def end() -> None:
        stop.wait()
        server.should_exit = True

    threading.Thread(target=end, name="web-stop", daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        stop.set()
