"""Who acts for an artist: whom the operator linked, and whoever shows a token on the artist's own page.

Both are facts that stand on their own (`ArtistLink`, `ControlProof`); nothing is copied from one to the other, so what
takes a fact back takes the desk back. The operator's links are entries of the log, which name the artist by id and the
person not at all. A link opens the desk and nothing else: claims hold their claimant `verified` by the page alone.
"""

import uuid

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ledger.database.tables.artists import ArtistLink, ArtistWebhook
from ledger.database.tables.claims import ArtistPage, ControlProof, Identity
from ledger.database.tables.works import Artist
from ledger.errors import NotFound
from ledger.log import entries
from ledger.log.statement_types import sign_entry
from ledger.runtime import Runtime

LINKED = "lawful-ledger/artist-linked/1"


def link(session: Session, runtime: Runtime, artist_id: uuid.UUID, identity_id: uuid.UUID) -> bytes | None:
    """Let this person act for this artist; the leaf of the entry that says so, None where it was so already.

    Raises NotFound `artist_unknown`, `identity_unknown`.
    """
    if session.get(Artist, artist_id) is None:
        raise NotFound(
            f"no artist {artist_id}", code="artist_unknown", next_step="take the id from /artists or from a report"
        )
    if session.get(Identity, identity_id) is None:
        raise NotFound(
            f"no identity {identity_id}", code="identity_unknown", next_step="the person's own page shows their id"
        )
    adding = insert(ArtistLink).values(artist_id=artist_id, identity_id=identity_id).on_conflict_do_nothing()
    if session.scalar(adding.returning(ArtistLink.artist_id)) is None:
        return None
    return _logged(session, runtime, artist_id, linked=True)


def unlink(session: Session, runtime: Runtime, artist_id: uuid.UUID, identity_id: uuid.UUID) -> bytes | None:
    """Take the link back, and the webhook with it; the leaf of the entry, None where there was no link."""
    mine = {"artist_id": artist_id, "identity_id": identity_id}
    removed = session.scalar(sa.delete(ArtistLink).filter_by(**mine).returning(ArtistLink.artist_id))
    session.execute(sa.delete(ArtistWebhook).filter_by(**mine))
    return _logged(session, runtime, artist_id, linked=False) if removed is not None else None


def unlink_all(session: Session, runtime: Runtime, identity_id: uuid.UUID) -> None:
    """Whom this person acted for, they act for no more."""
    linked = session.scalars(sa.select(ArtistLink.artist_id).where(ArtistLink.identity_id == identity_id)).all()
    for artist_id in sorted(linked):
        unlink(session, runtime, artist_id, identity_id)


def artists_of(session: Session, identity_id: uuid.UUID) -> list[uuid.UUID]:
    """The artists for whom this person acts now."""
    linked = sa.select(ArtistLink.artist_id).where(ArtistLink.identity_id == identity_id)
    on_record = sa.and_(ArtistPage.artist_id == ControlProof.artist_id, ArtistPage.url == ControlProof.page)
    shown = (
        sa.select(ControlProof.artist_id)
        .join(ArtistPage, on_record)
        .where(ControlProof.identity_id == identity_id, ControlProof.verified_at.is_not(None))
    )
    return sorted(session.scalars(linked.union(shown)))


def acts_for(session: Session, identity_id: uuid.UUID, artist_id: uuid.UUID) -> bool:
    return artist_id in artists_of(session, identity_id)


def require(session: Session, identity_id: uuid.UUID, artist_id: uuid.UUID) -> None:
    """Raises NotFound `desk_unknown`: for another's artist the same as for one that never was."""
    if not acts_for(session, identity_id, artist_id):
        raise NotFound(
            f"you do not act for an artist {artist_id} here",
            code="desk_unknown",
            next_step="show that the artist's page is yours, or ask the operator for `lawful artist link`",
        )


def _logged(session: Session, runtime: Runtime, artist_id: uuid.UUID, *, linked: bool) -> bytes:
    payload = {
        "type": LINKED,
        "artist_id": str(artist_id),
        "linked": linked,
        "created_at": runtime.clock().isoformat(),
    }
    return entries.append(session, sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin))
