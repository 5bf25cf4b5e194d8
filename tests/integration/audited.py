"""Auditors of a ledger: their tokens, and everything that they can read."""

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from litestar.testing import TestClient

from ledger import auditors
from ledger.auditors import SCOPES
from ledger.database.tables.works import Artist, Collection, Work
from ledger.runtime import Runtime


def token(runtime: Runtime, *scopes: str, days: int = 1) -> str:
    with runtime.sessions.begin() as session:
        given = scopes or SCOPES
        return auditors.new_token(session, "test", given, dt.timedelta(days=days), runtime.clock())[1]  # type: ignore[arg-type]


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def pages(client: TestClient, shown: str, **query: Any) -> Iterator[dict[str, Any]]:  # type: ignore[type-arg]
    """All pages, as a crawler reads them."""
    cursor, more = 0, True
    while more:
        answer = client.get("/v1/audit/entries", params={**query, "cursor": cursor}, headers=bearer(shown))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        yield page
        cursor, more = page["cursor"], page["more"]


def rows(client: TestClient, shown: str, **query: Any) -> list[dict[str, Any]]:  # type: ignore[type-arg]
    return [row for page in pages(client, shown, **query) for row in page["rows"]]


def artist(runtime: Runtime, name: str, *, named: bool) -> uuid.UUID:
    """An artist with one work, which may be named or not."""
    with runtime.sessions.begin() as session:
        collection_id = session.scalar(sa.select(Collection.id).where(Collection.name == "audited"))
        if collection_id is None:
            collection = Collection(id=uuid.uuid4(), name="audited")
            session.add(collection)
            session.flush()
            collection_id = collection.id
        person = Artist(id=uuid.uuid4(), collection_id=collection_id, name=name)
        session.add(person)
        session.flush()
        session.add(
            Work(
                id=uuid.uuid4(),
                collection_id=collection_id,
                artist_id=person.id,
                title=f"a work of {name}",
                source="test",
                licence="none",
                file_sha256=uuid.uuid4().bytes * 2,
                pixel_sha256=uuid.uuid4().bytes * 2,
                iscc="ISCC:EEAA",
                pdq="0" * 256,
                width=1,
                height=1,
                grant_train=True,
                grant_compare=True,
                grant_name=named,
            )
        )
        return person.id
