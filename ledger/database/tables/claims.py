"""The tables of claims: who signs in, what they claim, and every step of it.

What a person wrote or could be recognised by lies in `identities`, `sign_in_links`, `claim_documents` and
`control_proofs` alone, and can be emptied there; `claim_steps` names nobody and only grows.
"""

import datetime as dt
import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ledger.claims import steps
from ledger.database.tables.base import Base, created, length_check

# ---- who signs in --------------------------------------------------------------------------------------------------


class Identity(Base):
    """Somebody who once opened a link that was sent to this address. Without an address: erased."""

    __tablename__ = "identities"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    email: Mapped[str | None] = mapped_column(unique=True)
    created_at: Mapped[dt.datetime] = created()


class SignInLink(Base):
    """A link that was sent, by the SHA-256 of its token. It signs in once, before it expires, and leads to `page`."""

    __tablename__ = "sign_in_links"
    __table_args__ = (length_check("token_sha256"), sa.Index("sign_in_links_email", "email", "created_at"))
    token_sha256: Mapped[bytes] = mapped_column(primary_key=True)
    email: Mapped[str]
    page: Mapped[str | None]
    expires_at: Mapped[dt.datetime]
    used_at: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime] = created()


class WebSession(Base):
    """A browser that is signed in, by the SHA-256 of its cookie: who reads this table can be nobody by it."""

    __tablename__ = "web_sessions"
    __table_args__ = (length_check("token_sha256"),)
    token_sha256: Mapped[bytes] = mapped_column(primary_key=True)
    identity_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("identities.id"), index=True)
    expires_at: Mapped[dt.datetime]
    created_at: Mapped[dt.datetime] = created()


class ArtistPage(Base):
    """The page that the operator holds to be an artist's own: the only one that is ever fetched for them."""

    __tablename__ = "artist_pages"
    artist_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("artists.id"), primary_key=True)
    url: Mapped[str]
    created_at: Mapped[dt.datetime] = created()


class ControlProof(Base):
    """A token that an identity is to show on an artist's page, and when it was seen there, on which page."""

    __tablename__ = "control_proofs"
    identity_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("identities.id"), primary_key=True)
    artist_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("artists.id"), primary_key=True)
    token: Mapped[str]
    page: Mapped[str | None]
    verified_at: Mapped[dt.datetime | None]
    created_at: Mapped[dt.datetime] = created()


# ---- claims --------------------------------------------------------------------------------------------------------


class Claim(Base):
    """Whose claim on what. Its state is that of its newest step, its words are in its documents.

    `about` is the record claimed on; without one the image was handed in (`image_key`). The salt opens what the steps'
    entries commit to, and goes with the documents.
    """

    __tablename__ = "claims"
    __table_args__ = (
        sa.CheckConstraint("kind IN ('mine', 'copies', 'style', 'unconsented')", name="kind_known"),
        length_check("salt"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    identity_id: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("identities.id"), index=True)
    about: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("records.id"), index=True)
    work_id: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("works.id"), index=True)
    image_key: Mapped[str | None] = mapped_column(comment="Storage key of an image that is no record's.")
    work_key: Mapped[str | None] = mapped_column(comment="Storage key of a work that is not in the collection.")
    salt: Mapped[bytes | None]
    created_at: Mapped[dt.datetime] = created()
    erased_at: Mapped[dt.datetime | None]
    erased_leaf: Mapped[bytes | None] = mapped_column(comment="The entry that says that its opening was deleted.")


class ClaimStep(Base):
    """One step; `leaf_hash` is its entry's. The service may add rows and change none.

    Number and state of the step before are a foreign key: of two processes that move one claim on, one fails.
    """

    __tablename__ = "claim_steps"
    __table_args__ = (
        sa.UniqueConstraint("claim_id", "number", "state"),
        sa.ForeignKeyConstraint(
            ["claim_id", "previous", "before"], ["claim_steps.claim_id", "claim_steps.number", "claim_steps.state"]
        ),
        sa.CheckConstraint(steps.check_sql(), name="transition_known"),
        sa.CheckConstraint(
            "(number = 0 AND previous IS NULL AND before IS NULL)"
            " OR (number > 0 AND previous = number - 1 AND before IS NOT NULL)",
            name="follows_the_one_before",
        ),
        length_check("leaf_hash"),
        sa.Index(
            "claim_steps_one_appeal", "claim_id", "by_role", unique=True, postgresql_where=sa.text("event = 'appeal'")
        ),
    )
    claim_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("claims.id"), primary_key=True)
    number: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True, autoincrement=False)
    previous: Mapped[int | None] = mapped_column(sa.SmallInteger)
    before: Mapped[str | None]
    event: Mapped[str]
    state: Mapped[str]
    by_role: Mapped[str]
    leaf_hash: Mapped[bytes]
    created_at: Mapped[dt.datetime]


class ClaimDocument(Base):
    """What a step says, as canonical JSON (RFC 8785): the step's entry commits, salted, to its SHA-256."""

    __tablename__ = "claim_documents"
    __table_args__ = (sa.ForeignKeyConstraint(["claim_id", "number"], ["claim_steps.claim_id", "claim_steps.number"]),)
    claim_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True, autoincrement=False)
    body: Mapped[bytes]


class ClaimPicture(Base):
    """A drawing that the examination in step `number` names by its SHA-256: a matched region, in the image claimed on
    and, where it may be shown, in the work."""

    __tablename__ = "claim_pictures"
    __table_args__ = (
        sa.ForeignKeyConstraint(["claim_id", "number"], ["claim_steps.claim_id", "claim_steps.number"]),
        length_check("sha256"),
    )
    claim_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True, autoincrement=False)
    sha256: Mapped[bytes] = mapped_column(primary_key=True, index=True)
    png: Mapped[bytes]


class SignedClaimReport(Base):
    """A decided claim's report as PDF, as it stood after step `number`: drawn up and signed when it was first wanted,
    and these bytes ever after. With the claim's documents it is erased."""

    __tablename__ = "signed_claim_reports"
    __table_args__ = (
        sa.ForeignKeyConstraint(["claim_id", "number"], ["claim_steps.claim_id", "claim_steps.number"]),
        length_check("sha256"),
    )
    claim_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True, autoincrement=False)
    sha256: Mapped[bytes]
    pdf: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()
