"""So many requests in a while and no more: 429, one count for all web processes, told in the RateLimit headers."""

import ipaddress
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import structlog
from litestar import Request
from litestar.concurrency import sync_to_thread
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.exceptions import TooManyRequestsException
from litestar.middleware.rate_limit import get_remote_address
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from sqlalchemy.exc import SQLAlchemyError

from ledger import limits
from ledger.errors import LedgerError
from ledger.limits import Count

MINUTE, DAY = 60, 86_400  # seconds
MOST_REMEMBERED = 10_000

AnyRequest = Request[Any, Any, Any]

_logger = structlog.get_logger(__name__)


class RateLimit(NamedTuple):
    """`most` requests in `seconds`. `counts`: whether one is counted at all; `who`: for whom. `what` names the count,
    apart from others'."""

    what: str
    most: int
    seconds: int
    counts: Callable[[AnyRequest], Awaitable[bool]]
    who: Callable[[AnyRequest], str]


def visitor(request: AnyRequest) -> str:
    """The address that connects, or that a proxy of the setting `proxies` hands on; of IPv6 the /64 it stands in, since
    whoever has one address there has them all (RFC 6177). What is no address counts as it is written."""
    host = get_remote_address(request)
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


def limited(limit: RateLimit) -> Callable[[ASGIApp], ASGIApp]:
    """The middleware of one limit.

    Who is over it is refused from memory until its time ends: a flood costs the database nothing. When the database
    does not answer, nobody is refused for that: what is limited needs it as well, and says so itself (503).
    """
    refused: dict[str, float] = {}  # who → when its time ends, by the monotonic clock

    def middleware(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            request: AnyRequest = Request(scope)
            if scope["type"] != ScopeType.HTTP or not await limit.counts(request):
                await app(scope, receive, send)
                return
            counted = await _count(limit, request, refused)
            if counted is None:
                await app(scope, receive, send)
                return
            headers = _headers(limit, counted)
            if counted.taken > limit.most:
                raise TooManyRequestsException(headers=headers)

            async def send_with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    MutableScopeHeaders(message).update(headers)
                await send(message)

            await app(scope, receive, send_with_headers)

        return wrapped

    return middleware


async def _count(limit: RateLimit, request: AnyRequest, refused: dict[str, float]) -> Count | None:
    who, now = limit.who(request), time.monotonic()
    if (until := refused.get(who, 0.0)) > now:
        return Count(limit.most + 1, max(1, round(until - now)))
    refused.pop(who, None)
    try:
        counted = await sync_to_thread(
            limits.count, request.app.state.runtime.database.engine, limit.what, who, limit.seconds
        )
    except (SQLAlchemyError, LedgerError) as error:
        _logger.warning("limit_not_counted", limit=limit.what, error=type(error).__name__)
        return None
    if counted.taken > limit.most:
        if len(refused) >= MOST_REMEMBERED:
            refused.clear()
        refused[who] = now + counted.seconds_left
    return counted


def _headers(limit: RateLimit, counted: Count) -> dict[str, str]:
    """As the IETF's draft-ietf-httpapi-ratelimit-headers-02 names them."""
    return {
        "RateLimit-Policy": f"{limit.most}; w={limit.seconds}",
        "RateLimit-Limit": str(limit.most),
        "RateLimit-Remaining": str(max(0, limit.most - counted.taken)),
        "RateLimit-Reset": str(counted.seconds_left),
    }
