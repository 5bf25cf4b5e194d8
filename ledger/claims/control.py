"""Proof of control: a token that the claimant shows on the page which is on record as the artist's own.

What it proves: whoever is signed in could write onto that page. That the page is the artist's is the operator's word,
who put it on record; a claimant names no page, so this ledger fetches nothing that a stranger chose.
"""

import re
import secrets
import uuid

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ledger.claims.fetching import Fetcher, checked_host
from ledger.database.tables.claims import ArtistPage, ControlProof
from ledger.database.tables.works import Artist
from ledger.errors import BadRequest, NotFound
from ledger.runtime import Runtime

PREFIX = "lawful-ledger-"


def put_page(session: Session, artist_id: uuid.UUID, url: str) -> None:
    """Put an artist's own page on record. What was proven on another page is proven no more.

    Raises NotFound `artist_unknown`, PageRefused for an address that would never be fetched.
    """
    checked_host(url)
    if session.get(Artist, artist_id) is None:
        raise NotFound(
            f"no artist {artist_id}", code="artist_unknown", next_step="see the works in the collection for its artists"
        )
    adding = insert(ArtistPage).values(artist_id=artist_id, url=url)
    session.execute(adding.on_conflict_do_update(index_elements=["artist_id"], set_={"url": url}))
    session.execute(
        sa.update(ControlProof)
        .where(ControlProof.artist_id == artist_id, ControlProof.page.is_distinct_from(url))
        .values(verified_at=None, page=None)
    )


def ask(session: Session, identity_id: uuid.UUID, artist_id: uuid.UUID) -> tuple[str, str]:
    """(token, page): what this identity is to show where. The same each time. Raises NotFound `artist_page_unknown`."""
    page = _page(session, artist_id)
    token = PREFIX + secrets.token_hex(16)
    session.execute(
        insert(ControlProof)
        .values(identity_id=identity_id, artist_id=artist_id, token=token)
        .on_conflict_do_nothing(index_elements=["identity_id", "artist_id"])
    )
    return session.get_one(ControlProof, (identity_id, artist_id)).token, page


def check(runtime: Runtime, identity_id: uuid.UUID, artist_id: uuid.UUID, fetcher: Fetcher | None = None) -> None:
    """Fetch the page and look for the token; from then on the identity is `verified` as this artist.

    No transaction is open while the page is fetched. Raises PageRefused, NotFound `artist_page_unknown`, BadRequest
    `token_not_shown`.
    """
    with runtime.sessions() as session:
        page = _page(session, artist_id)
        proof = session.get(ControlProof, (identity_id, artist_id))
        token = proof.token if proof is not None else None
    if token is None or not shows(_fetched(fetcher, page), token):
        raise BadRequest(
            "the page does not show the token",
            code="token_not_shown",
            next_step="put the token into the page's text, see that others can read it, and check again",
        )
    with runtime.sessions.begin() as session:
        session.execute(
            sa.update(ControlProof)
            .where(ControlProof.identity_id == identity_id, ControlProof.artist_id == artist_id)
            .values(verified_at=runtime.clock(), page=page)
        )


def shows(page: bytes, token: str) -> bool:
    """Whether the token stands in the page, as a word of its own."""
    return re.search(rb"(?<![0-9a-zA-Z])" + re.escape(token.encode()) + rb"(?![0-9a-zA-Z])", page) is not None


def _fetched(fetcher: Fetcher | None, page: str) -> bytes:
    return (fetcher or Fetcher()).fetch(page)


def _page(session: Session, artist_id: uuid.UUID) -> str:
    page = session.scalar(sa.select(ArtistPage.url).where(ArtistPage.artist_id == artist_id))
    if page is None:
        raise NotFound(
            "no page is on record as this artist's own",
            code="artist_page_unknown",
            next_step="ask the operator to put it on record: `lawful claim page`",
        )
    return page
