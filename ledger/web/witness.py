"""A witness over HTTP: C2SP tlog-witness, with one address as submission and monitoring prefix.

    POST /add-checkpoint           cosign a checkpoint that continues the one before
    GET  /<origin hash>/checkpoint the newest cosigned checkpoint of a log (hash: SHA-256 of its origin, lowercase hex)
    GET  /                         who this witness is and what it watches, as text

Nobody has to say who he is: what counts is the log's signature on the checkpoint. A server that faces the world stands
behind one that ends TLS and cuts off those who send their headers slowly.
"""

import asyncio
import socket
import threading
from collections.abc import Mapping
from typing import Any

import structlog
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.concurrency import sync_to_thread
from litestar.exceptions import HTTPException
from litestar.params import FromPath

from ledger.errors import LedgerError
from ledger.web.serving import serve_app
from ledger.witness.witness import MAX_REQUEST_BYTES, TEXT, Answer, Witness

BODY_SECONDS = 10.0
"""How long a request's body may take: it is one packet or two."""

MOST_CONNECTIONS = 256

_logger = structlog.get_logger(__name__)


def create_witness_app(witness: Witness, urls: Mapping[str, str] | None = None) -> Litestar:
    """The application of one witness. `urls`: origin → where that log is read, for those who open the first page."""

    @post("/add-checkpoint", status_code=200, include_in_schema=False)
    async def add_checkpoint(request: Request[Any, Any, Any]) -> Response[bytes]:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.body()
        except TimeoutError:
            return _response(Answer(408, TEXT, b"the body did not arrive in time\n"))
        answer = await sync_to_thread(_answered, witness, body)
        return _response(answer)

    @get("/{name:str}/checkpoint", sync_to_thread=True, include_in_schema=False)
    def checkpoint(name: FromPath[str]) -> Response[bytes]:
        note = witness.checkpoint(name)
        if note is None:
            return _response(Answer(404, TEXT, b"this witness has cosigned no checkpoint of such a log\n"))
        return _response(Answer(200, TEXT, note), {"Cache-Control": "no-cache"})

    @get("/", sync_to_thread=True, include_in_schema=False)
    def about() -> Response[bytes]:
        return _response(Answer(200, TEXT, describe(witness, urls or {}).encode()))

    return Litestar(
        route_handlers=[add_checkpoint, checkpoint, about],
        exception_handlers={HTTPException: _refuse, Exception: _fail},
        request_max_body_size=MAX_REQUEST_BYTES,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


def describe(witness: Witness, urls: Mapping[str, str]) -> str:
    """The witness's key and, for each log, what it has cosigned: lines for people."""
    lines = [f"witness {witness.cosigner.vkey}"]
    for origin in sorted(witness.logs):
        held = witness.held(origin)
        seen = "nothing yet" if held is None else f"{held.checkpoint.size} entries, cosigned at Unix time {held.at}"
        lines.append(f"log {origin}: {seen}" + (f", read at {urls[origin]}" if origin in urls else ""))
    return "\n".join(lines) + "\n"


def serve_witness(
    witness: Witness, listener: socket.socket, stop: threading.Event, urls: Mapping[str, str] | None = None
) -> None:
    """Serve on `listener` until `stop` is set, then finish what is being answered. Blocks."""
    with listener:
        app = create_witness_app(witness, urls)
        serve_app(app, listener, stop, patience=5, lifespan="off", limit_concurrency=MOST_CONNECTIONS)


def _answered(witness: Witness, body: bytes) -> Answer:
    answer = witness.add_checkpoint(body)
    said = answer.body.decode(errors="replace").strip() if answer.status != 200 else ""
    _logger.info("add_checkpoint", status=answer.status, bytes=len(body), said=said)
    return answer


def _response(answer: Answer, headers: dict[str, str] | None = None) -> Response[bytes]:
    # as a header, exactly: to a media type of text the framework would add a charset, which clients compare with
    said = {"Content-Type": answer.media_type, **(headers or {})}
    return Response(answer.body, status_code=answer.status, headers=said)


def _refuse(_: Request[Any, Any, Any], error: HTTPException) -> Response[str]:
    """What the framework refuses: a body over the limit, another method, another address."""
    return Response(
        f"{error.detail}\n", status_code=error.status_code, media_type=MediaType.TEXT, headers=error.headers
    )


def _fail(_: Request[Any, Any, Any], error: Exception) -> Response[str]:
    """No promise without a durable state: whatever went wrong, nothing was cosigned that anybody has."""
    code = error.code if isinstance(error, LedgerError) else type(error).__name__
    _logger.error("witness_failed", code=code, exc_info=None if isinstance(error, LedgerError) else error)
    return Response("the witness cannot answer; its operator has to look\n", status_code=500, media_type=MediaType.TEXT)
