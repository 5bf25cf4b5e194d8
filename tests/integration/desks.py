"""Somebody at an artist's desk: signed in over HTTP, and linked by the operator."""

import uuid

import sqlalchemy as sa
import structlog
from litestar.testing import TestClient

from ledger.artists import links
from ledger.database.tables.claims import Identity
from ledger.database.tables.works import Work
from ledger.runtime import Runtime

PAGE = {"accept": "text/html"}


def sign_in(client: TestClient, runtime: Runtime, email: str = "jane@example.org") -> uuid.UUID:  # type: ignore[type-arg]
    """The id of whoever reads the mail at this address, signed in with this client."""
    with structlog.testing.capture_logs() as logged:
        assert client.post("/sign-in", data={"email": email}, headers=PAGE).status_code == 200
    (line,) = [each for each in logged if each["event"] == "sign_in_link"]
    assert client.post(str(line["link"]).partition("8000")[2], follow_redirects=False).status_code == 303
    with runtime.sessions() as session:
        return session.scalars(sa.select(Identity.id).where(Identity.email == email)).one()


def artist_of(runtime: Runtime, work_id: uuid.UUID) -> uuid.UUID:
    with runtime.sessions() as session:
        return session.get_one(Work, work_id).artist_id


def link(runtime: Runtime, artist_id: uuid.UUID, identity_id: uuid.UUID) -> bytes | None:
    with runtime.sessions.begin() as session:
        return links.link(session, runtime, artist_id, identity_id)


def unlink(runtime: Runtime, artist_id: uuid.UUID, identity_id: uuid.UUID) -> bytes | None:
    with runtime.sessions.begin() as session:
        return links.unlink(session, runtime, artist_id, identity_id)


def desk(artist_id: uuid.UUID, action: str = "") -> str:
    return f"/account/artists/{artist_id}{action}"
