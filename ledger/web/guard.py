"""Who may write: a key in `Authorization: Bearer …`, looked at before a byte of the body is read."""

import uuid
from typing import Any

from litestar.concurrency import sync_to_thread
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

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
