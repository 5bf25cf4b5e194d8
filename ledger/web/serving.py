"""Running a web application on a socket that somebody else opened, until it is told to stop."""

import socket
import threading
from collections.abc import Sequence
from typing import Any

import uvicorn
from litestar import Litestar


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
