"""Who is signed in: a random cookie, known to the database by its hash alone, new at every sign-in.

The framework's own sessions take over whatever id a browser brings, and keep ids in the clear; an API key in a cookie,
which this is, has neither weakness. That no other site sends our forms, the browser itself says (`from_our_page`): the
framework's CSRF middleware reads whole uploads before it refuses them.
"""

import uuid
from typing import Any
from urllib.parse import urlsplit

from litestar.concurrency import sync_to_thread
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler

from ledger.artists import links
from ledger.claims.identities import SESSION_LIFE, identity_of
from ledger.errors import NotAllowed
from ledger.runtime import Runtime
from ledger.settings import Settings

Connection = ASGIConnection[Any, Any, Any, Any]


def is_secure(settings: Settings) -> bool:
    """Cookies are for https alone, but where the ledger itself is reached without: on one's own machine."""
    return settings.public_url.startswith("https://")


def cookie_name(settings: Settings) -> str:
    """With the prefix no other host and no plain connection can set it (RFC 6265bis, section 4.1.3.2)."""
    return "__Host-lawful" if is_secure(settings) else "lawful"


def session_cookie(settings: Settings, token: str) -> Cookie:
    """The cookie of a new session; an empty `token` takes it back."""
    return Cookie(
        key=cookie_name(settings),
        value=token,
        max_age=int(SESSION_LIFE.total_seconds()) if token else 0,
        path="/",
        secure=is_secure(settings),
        httponly=True,
        samesite="lax",
    )


async def from_our_page(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Refuse (403) a form that a page of somebody else's sent, by what the browser says of it, before its body is read.

    Browsers say so themselves since 2023, over https and on one's own machine (`Sec-Fetch-Site`, W3C Fetch Metadata);
    `Origin` comes from older ones. What sends neither is no browser, and carries nobody's cookie but its own.
    """
    if connection.scope["type"] != ScopeType.HTTP or connection.scope["method"] == "GET":
        return
    site, origin = connection.headers.get("sec-fetch-site"), connection.headers.get("origin")
    if site is not None:
        ours = site in {"same-origin", "none"}  # none: it was sent again from the address bar
    else:
        ours = origin is None or origin == _origin(connection.app.state.runtime.settings.public_url)
    if not ours:
        raise NotAllowed(
            "the form did not come from this ledger's own page",
            code="form_refused",
            next_step="open the page here, at the address that the operator made public, and send the form from there",
        )


def _origin(url: str) -> str:
    """RFC 6454, section 6.2."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


async def requires_sign_in(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Refuse (403) whoever is not signed in."""
    await knows_sign_in(connection, _handler)
    if connection.state.identity_id is None:
        raise NotAllowed(
            "this page is for somebody who is signed in",
            code="sign_in_needed",
            next_step="sign in at /sign-in, then open it again",
        )


async def requires_artist(connection: Connection) -> None:
    """Refuse (404) whoever is signed in and does not act for the artist in the address."""
    artist_id = uuid.UUID(str(connection.path_params["artist_id"]))
    await sync_to_thread(_require_artist, connection.app.state.runtime, connection.state.identity_id, artist_id)


async def knows_sign_in(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Note who is signed in, if somebody is."""
    runtime: Runtime = connection.app.state.runtime
    cookie = connection.cookies.get(cookie_name(runtime.settings))
    connection.state.identity_id = await sync_to_thread(_identity, runtime, cookie) if cookie else None


def _identity(runtime: Runtime, cookie: str) -> uuid.UUID | None:
    with runtime.reading() as session:
        return identity_of(session, cookie, runtime.clock())


def _require_artist(runtime: Runtime, identity_id: uuid.UUID, artist_id: uuid.UUID) -> None:
    with runtime.reading() as session:
        links.require(session, identity_id, artist_id)
