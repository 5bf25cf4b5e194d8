"""Who is signed in: a random cookie, known to the database by its hash alone, new at every sign-in.

The framework's own sessions take over whatever id a browser brings, and keep ids in the clear; an API key in a cookie,
which this is, has neither weakness. Forms are guarded by the framework's CSRF middleware.
"""

import os
import secrets
import tempfile
import uuid
from pathlib import Path

from litestar.concurrency import sync_to_thread
from litestar.config.csrf import CSRFConfig
from litestar.datastructures import Cookie
from litestar.handlers import BaseRouteHandler

from ledger.claims.identities import SESSION_LIFE, identity_of
from ledger.errors import NotAllowed
from ledger.runtime import Runtime
from ledger.settings import Settings
from ledger.web.guard import Connection

FORMS_FILE = "web.secret"


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


def csrf_config(settings: Settings) -> CSRFConfig:
    """For the routers with forms. Its secret is set when the application starts (`web_secret`)."""
    return CSRFConfig(
        secret="",
        cookie_name="__Host-lawful-form" if is_secure(settings) else "lawful-form",
        cookie_secure=is_secure(settings),
        cookie_httponly=True,
        cookie_samesite="lax",
    )


def web_secret(settings: Settings) -> str:
    """The setting, or a file in the ledger's home that the first web process writes, whole or not at all."""
    if settings.web_secret is not None:
        return settings.web_secret.get_secret_value()
    path = settings.home / FORMS_FILE
    if not path.exists():
        descriptor, name = tempfile.mkstemp(dir=settings.home, prefix=f".{FORMS_FILE}-")  # 0600
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        try:
            path.hardlink_to(name)  # fails where another process was faster: its secret is the one
        except FileExistsError:
            pass
        finally:
            Path(name).unlink()
    return path.read_text(encoding="ascii")


async def requires_sign_in(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Refuse (403) whoever is not signed in."""
    await knows_sign_in(connection, _handler)
    if connection.state.identity_id is None:
        raise NotAllowed(
            "this page is for somebody who is signed in",
            code="sign_in_needed",
            next_step="sign in at /sign-in, then open it again",
        )


async def knows_sign_in(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Note who is signed in, if somebody is."""
    runtime: Runtime = connection.app.state.runtime
    cookie = connection.cookies.get(cookie_name(runtime.settings))
    connection.state.identity_id = await sync_to_thread(_identity, runtime, cookie) if cookie else None


def _identity(runtime: Runtime, cookie: str) -> uuid.UUID | None:
    with runtime.sessions() as session:
        return identity_of(session, cookie, runtime.clock())
