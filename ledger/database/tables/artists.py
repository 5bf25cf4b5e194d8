"""The tables of the artist's desk: who acts for whom, which address hears of new records, what was handed in.

Nothing here is in the log but by the artist's id; an erased identity takes its rows along.
"""

import datetime as dt
import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ledger.database.tables.base import Base, created, length_check


class ArtistLink(Base):
    """The operator's word that this person acts for this artist."""

    __tablename__ = "artist_links"
    identity_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("identities.id"), primary_key=True)
    artist_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("artists.id"), primary_key=True)
    created_at: Mapped[dt.datetime] = created()


class ArtistWebhook(Base):
    """Where somebody who acts for an artist wants to hear of records that credit them.

    The secret lies here in the clear: it has to, to sign with. `failures` counts attempts since one last arrived.
    """

    __tablename__ = "artist_webhooks"
    __table_args__ = (length_check("secret"),)
    identity_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("identities.id"), primary_key=True)
    artist_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("artists.id"), primary_key=True, index=True)
    url: Mapped[str]
    secret: Mapped[bytes]
    failures: Mapped[int] = mapped_column(default=0)
    off_at: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime] = created()


class Enrolment(Base):
    """A picture that somebody handed in as a work of the artist for whom they act, and what became of it."""

    __tablename__ = "enrolments"
    __table_args__ = (
        sa.CheckConstraint("state IN ('waiting', 'enrolled', 'refused')", name="state_known"),
        sa.Index("enrolments_of_artist", "artist_id", "created_at"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    identity_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("identities.id"), index=True)
    artist_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("artists.id"))
    title: Mapped[str]
    licence: Mapped[str]
    grant_train: Mapped[bool]
    grant_compare: Mapped[bool]
    grant_name: Mapped[bool]
    file_key: Mapped[str | None] = mapped_column(comment="Storage key of the picture while it waits.")
    state: Mapped[str] = mapped_column(default="waiting")
    refusal: Mapped[str | None] = mapped_column(comment="Why it was refused, as its sender is told.")
    work_id: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("works.id"))
    created_at: Mapped[dt.datetime]
