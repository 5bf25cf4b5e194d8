"""Keeps the table of `ledger.web.access`: a key in `Authorization: Bearer …` or a cookie, before the body is read."""

import uuid
from collections.abc import Iterable
from typing import Any, NamedTuple

from litestar import Request
from litestar.concurrency import sync_to_thread
from litestar.handlers import BaseRouteHandler
from litestar.routes import BaseRoute, HTTPRoute

from ledger import auditors
from ledger.api_keys import principal_of
from ledger.auditors import Auditor
from ledger.errors import NotAllowed
from ledger.runtime import Runtime
from ledger.web.access import ACCESS, Access
from ledger.web.sessions import Connection, requires_artist, requires_sign_in


class Caller(NamedTuple):
    principal_id: uuid.UUID
    role: str


async def allowed(connection: Connection, handler: BaseRouteHandler) -> None:
    """The guard of the whole application. Notes whose key was sent, None where none was or none is looked at.

    Refuses with 401 whoever sends no key where one is needed, or one that is unknown or revoked; with 403 a key whose
    role does not open this route. An auditor's token is refused likewise: none, ended, or of another scope. Who is not
    signed in is refused with 403, who does not act for the artist in the address with 404.
    """
    connection.state.principal_id = None
    method = str(connection.scope.get("method"))
    if method == "OPTIONS":  # says which methods there are, and does nothing
        return
    access = ACCESS[method, connection.scope["path_template"]]
    if access.scope is not None:
        auditors.check(connection.state.auditor, access.scope)
        return
    if access.session is not None:
        await requires_sign_in(connection, handler)
        if access.session == "artist":
            await requires_artist(connection)
        return
    if not access.looks or "authorization" not in connection.headers:
        if not access.public:
            raise NotAllowed(
                "this needs an API key and none was sent",
                code="api_key_missing",
                status=401,
                next_step="send `Authorization: Bearer <key>`; `lawful init` shows the first key,"
                " `lawful keys api` makes more",
            )
        return
    caller = await sync_to_thread(_caller, connection.app.state.runtime, _bearer(connection))
    if caller.role not in access.keys:
        raise NotAllowed(
            f"a key of the role {caller.role} does not open this; one of {_named(access)} does",
            code="role_not_allowed",
            next_step="ask the ledger's operator for a key of that role (`lawful keys api NAME --role …`)",
        )
    connection.state.principal_id = caller.principal_id


def require_a_row_for_each(routes: Iterable[BaseRoute]) -> None:
    """Raises LookupError unless routes and table name exactly the same: what is forgotten must not be open to all."""
    found = {
        (method, route.path_format)
        for route in routes
        if isinstance(route, HTTPRoute)
        for method in route.methods - {"OPTIONS", "HEAD"}  # HEAD is GET before it comes here (`with_headers`)
    }
    if found != set(ACCESS):
        raise LookupError(f"routes and ledger/web/access.py differ in {sorted(found ^ set(ACCESS))}")


def _named(access: Access) -> str:
    return " or ".join(sorted(access.keys))


def _bearer(connection: Connection) -> str | None:
    """What was sent as `Authorization: Bearer` (RFC 6750, section 2.1)."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _caller(runtime: Runtime, key: str | None) -> Caller:
    with runtime.reading() as session:
        principal = principal_of(session, key) if key is not None else None
    if principal is None:
        raise NotAllowed(
            "the API key that was sent is not one of this ledger, or was revoked",
            code="api_key_unknown",
            status=401,
            next_step="send a key of this ledger as `Authorization: Bearer <key>`",
        )
    return Caller(principal.id, principal.role)


async def is_auditor(request: "Request[Any, Any, Any]") -> bool:
    """Note whose token was sent. What is counted against a limit is what a known auditor asks; others are refused."""
    request.state.auditor = await sync_to_thread(_auditor, request.app.state.runtime, _bearer(request))
    return request.state.auditor is not None


def auditor_id(request: "Request[Any, Any, Any]") -> str:
    """Whom a request counts for, once `is_auditor` has said yes."""
    return str(request.state.auditor.id)


def _auditor(runtime: Runtime, token: str | None) -> Auditor | None:
    if token is None:
        return None
    with runtime.reading() as session:
        return auditors.auditor_of(session, token, runtime.clock())
