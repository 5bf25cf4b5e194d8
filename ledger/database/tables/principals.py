"""Who may write: principals, the keys they show and sign with, and the batches they sent. Who may read in bulk."""

import datetime as dt
import uuid

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from ledger.database.tables.base import Base, created, length_check


class Principal(Base):
    """Whoever holds a key; the role says what it opens (`ledger.web.access`).

    With `generator` set, their stamps may claim that this model made the image.
    """

    __tablename__ = "principals"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str] = mapped_column(
        sa.Text, sa.CheckConstraint("role IN ('operator', 'submitter', 'auditor', 'admin')", name="role_known")
    )
    generator: Mapped[str | None]
    created_at: Mapped[dt.datetime] = created()


class ApiKey(Base):
    """A key's SHA-256; the key itself is shown once and never stored."""

    __tablename__ = "api_keys"
    __table_args__ = (length_check("key_sha256"),)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    principal_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("principals.id"))
    key_sha256: Mapped[bytes] = mapped_column(unique=True)
    label: Mapped[str]
    created_at: Mapped[dt.datetime] = created()
    revoked_at: Mapped[dt.datetime | None]


class AuditorToken(Base):
    """A token that reads and cannot write: it is no API key. By its SHA-256; it ends."""

    __tablename__ = "auditor_tokens"
    __table_args__ = (
        length_check("token_sha256"),
        sa.CheckConstraint("scopes <@ ARRAY['entries', 'exports'] AND cardinality(scopes) > 0", name="scopes_known"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    token_sha256: Mapped[bytes] = mapped_column(unique=True)
    label: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(sa.Text))
    created_at: Mapped[dt.datetime] = created()
    expires_at: Mapped[dt.datetime]
    revoked_at: Mapped[dt.datetime | None]


class RequestCount(Base):
    """Requests of somebody in the window that ends then; `who` is a digest (`ledger.limits`)."""

    __tablename__ = "request_counts"
    __table_args__ = (length_check("who"), {"prefixes": ["UNLOGGED"]})
    who: Mapped[bytes] = mapped_column(primary_key=True)
    taken: Mapped[int]
    ends_at: Mapped[dt.datetime]


class SubmitterKey(Base):
    """A key whose statements a submitter may put into the log; its announcement is an entry."""

    __tablename__ = "submitter_keys"
    __table_args__ = (length_check("kid"), length_check("public_key"), length_check("leaf_hash"))
    kid: Mapped[bytes] = mapped_column(primary_key=True)
    principal_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("principals.id"))
    public_key: Mapped[bytes]
    leaf_hash: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()
    revoked_at: Mapped[dt.datetime | None]


class Submission(Base):
    """A batch of a submitter's statements under an idempotency key, so that a retry is the same batch or refused."""

    __tablename__ = "submissions"
    __table_args__ = (length_check("body_sha256"),)
    principal_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("principals.id"), primary_key=True)
    idempotency_key: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()
