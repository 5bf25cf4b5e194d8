"""Every request has an id, is counted, and leaves one line in the log. Nothing of what was asked for is kept.

The id goes back as `X-Request-Id`, names the occurrence in a problem's `instance`, and travels with a job to the
worker. It is always ours: one that a caller chooses could stand in for somebody else's. Where a collector is set, what
is told in the log is a span as well (`ledger.tracing`).
"""

import time

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars, get_contextvars
from uuid_utils.compat import uuid7

from ledger import tracing
from ledger.metrics import HTTP_SECONDS

QUIET = {"/healthz", "/readyz"}
"""Asked every few seconds by machines: counted, and not told, even where the answer is that something is missing."""

METHODS = {"GET", "HEAD", "POST", "OPTIONS"}  # whatever else a stranger sends is one label

_logger = structlog.get_logger(__name__)


def observed(app: ASGIApp) -> ASGIApp:
    """Wrap `app`, outside of everything that may answer."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        request_id, started = str(uuid7()), time.perf_counter()
        method = scope["method"] if scope["method"] in METHODS else "other"
        status = 499  # nobody got an answer: the visitor went away, or the process ends

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        with bound_contextvars(request_id=request_id), tracing.request(method, request_id) as answered:
            try:
                await app(scope, receive, send_with_id)
            finally:
                seconds = time.perf_counter() - started
                route = scope.get("path_template") or "none"  # what no route answers is one label, whatever was asked
                HTTP_SECONDS.labels(method, route, str(status)).observe(seconds)
                if route not in QUIET:
                    facts = {"method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
                    record = scope.get("path_params", {}).get("record_id")
                    _logger.info("request", **facts, **({"record_id": str(record)} if record else {}))
                    answered(route, status, str(record) if record else None)

    return wrapped


def request_id() -> str | None:
    """The id of the request that is being answered, None outside of one."""
    return get_contextvars().get("request_id")
