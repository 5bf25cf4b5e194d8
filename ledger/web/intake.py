"""As many reads at once as can be answered soon; whoever comes beyond that is told at once when to come again.

A read waits for one of the process's threads. Without an end to that line, visitors in numbers would all wait for
minutes, and be answered after they had left. Writes are not counted: whoever sends one may wait on purpose.
"""

from typing import Any

import jinja2
import msgspec
from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from ledger.errors import Unavailable
from ledger.web.observed import QUIET, request_id
from ledger.web.problems import PROBLEM_JSON, RETRY_SECONDS, problem_of, wants_page

MOST_READS = 64
"""In hand at once in one process: what its threads answer in a fraction of a second."""


def not_too_many(app: ASGIApp, pages: jinja2.Environment) -> ASGIApp:
    """Wrap `app`: beyond MOST_READS reads in hand, 503 `too_busy` with Retry-After. Health is always told."""
    in_hand = 0

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal in_hand
        if scope["type"] != ScopeType.HTTP or scope["method"] != "GET" or scope["path"] in QUIET:
            await app(scope, receive, send)
            return
        if in_hand >= MOST_READS:
            await _turn_away(scope, send, pages)
            return
        in_hand += 1
        counted = True

        async def send_and_let_go(message: Message) -> None:
            """Answered is no longer in hand: a reader who takes his time keeps nobody else out."""
            nonlocal in_hand, counted
            in_hand, counted = in_hand - counted, False
            await send(message)

        try:
            await app(scope, receive, send_and_let_go)
        finally:
            in_hand -= counted

    return wrapped


async def _turn_away(scope: Scope, send: Send, pages: jinja2.Environment) -> None:
    busy = Unavailable(
        "more is asked of this process at once than it answers soon",
        code="too_busy",
        next_step="ask again in a few seconds",
    )
    problem = problem_of(busy, f"urn:uuid:{request_id()}")
    request: Request[Any, Any, Any] = Request(scope)
    if wants_page(request):
        media_type = "text/html; charset=utf-8"
        body = pages.get_template("problem.html").render(problem=problem, request=request).encode()
    else:
        media_type, body = PROBLEM_JSON, msgspec.json.encode(problem)
    headers = [
        (b"content-type", media_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", RETRY_SECONDS.encode()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
