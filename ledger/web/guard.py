"""Who may write, and who may read in bulk: `Authorization: Bearer …`, looked at before a byte of the body is read."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Request
from litestar.concurrency import sync_to_thread
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from ledger import auditors
from ledger.auditors import Auditor, Scope
from ledger.errors import NotAllowed
from ledger.genesis import principal_of
from ledger.runtime import Runtime

Connection = ASGIConnection[Any, Any, Any, Any]


async def requires_key(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Refuse (401) whoever sends no key or one that is unknown or revoked."""
    if "authorization" not in connection.headers:
        raise NotAllowed(
            "writing needs an API key and none was sent",
            code="api_key_missing",
            status=401,
            next_step="send `Authorization: Bearer <key>`; `lawful init` shows the first key, `lawful keys` makes more",
        )
    await knows_key(connection, _handler)


async def knows_key(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Note whose key was sent, if one was. A wrong key is refused even where none is needed: it is a mistake."""
    connection.state.principal_id = None
    header = connection.headers.get("authorization")
    if header is not None:
        connection.state.principal_id = await sync_to_thread(_principal_id, connection.app.state.runtime, header)


def _principal_id(runtime: Runtime, header: str) -> uuid.UUID:
    scheme, _, key = header.partition(" ")
    with runtime.sessions() as session:
        principal = principal_of(session, key.strip()) if scheme.lower() == "bearer" else None
    if principal is None:
        raise NotAllowed(
            "the API key that was sent is not one of this ledger, or was revoked",
            code="api_key_unknown",
            status=401,
            next_step="send a key of this ledger as `Authorization: Bearer <key>`",
        )
    return principal.id


async def is_auditor(request: "Request[Any, Any, Any]") -> bool:
    """Note whose token was sent. What is counted against a limit is what a known auditor asks; others are refused."""
    request.state.auditor = await sync_to_thread(_auditor, request.app.state.runtime, request.headers)
    return request.state.auditor is not None


def auditor_id(request: "Request[Any, Any, Any]") -> str:
    """Whom a request counts for, once `is_auditor` has said yes."""
    return f"{request.state.auditor.id} {request.url.path.split('/')[3]}"


def requires_scope(scope: Scope) -> Callable[[Connection, BaseRouteHandler], Awaitable[None]]:
    """A guard that refuses (401, 403) whoever shows no auditor's token, an ended one, or one for something else."""

    async def guard(connection: Connection, _handler: BaseRouteHandler) -> None:
        auditors.check(connection.state.auditor, scope)

    return guard


def _auditor(runtime: Runtime, headers: Any) -> Auditor | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    with runtime.sessions() as session:
        return auditors.auditor_of(session, token.strip(), runtime.clock())
