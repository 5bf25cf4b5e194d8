"""What images are compared with: the works of collections, what networks see in them, snapshots and calibrations."""

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa
from pgvector.sqlalchemy import BIT, HALFVEC
from sqlalchemy.orm import Mapped, mapped_column

from ledger.database.tables.base import Base, created, length_check


class Collection(Base):
    __tablename__ = "collections"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[dt.datetime] = created()


class Artist(Base):
    """Whom works are credited to. A name counts within one collection: two collections' namesakes stay two artists."""

    __tablename__ = "artists"
    __table_args__ = (sa.UniqueConstraint("collection_id", "name"),)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    collection_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("collections.id"))
    name: Mapped[str]
    created_at: Mapped[dt.datetime] = created()


class Work(Base):
    """One image of a collection, with its three grants as they stand now (`grant_changes` holds their history)."""

    __tablename__ = "works"
    __table_args__ = (
        sa.UniqueConstraint("collection_id", "artist_id", "file_sha256"),
        length_check("file_sha256"),
        length_check("pixel_sha256"),
        sa.Index("works_file_sha256", "file_sha256"),
        sa.Index("works_pixel_sha256", "pixel_sha256"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    collection_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("collections.id"))
    artist_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("artists.id"))
    title: Mapped[str]
    source: Mapped[str]
    licence: Mapped[str]
    file_sha256: Mapped[bytes]
    pixel_sha256: Mapped[bytes]
    iscc: Mapped[str]
    pdq: Mapped[str] = mapped_column(BIT(256))
    width: Mapped[int]
    height: Mapped[int]
    grant_train: Mapped[bool]
    grant_compare: Mapped[bool]
    grant_name: Mapped[bool]
    created_at: Mapped[dt.datetime] = created()


class GrantChange(Base):
    """One change of one grant; its entry in the log is `leaf_hash`."""

    __tablename__ = "grant_changes"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    work_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("works.id"), index=True)
    grant: Mapped[str] = mapped_column(
        sa.Text, sa.CheckConstraint("\"grant\" IN ('train', 'compare', 'name')", name="grant_known")
    )
    allowed: Mapped[bool]
    by_role: Mapped[str]
    leaf_hash: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()


class Embedding(Base):
    """One work seen by one encoder. `encoder` is `name@first 16 hex digits of the weights digest`."""

    __tablename__ = "embeddings"
    work_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("works.id", ondelete="CASCADE"), primary_key=True)
    encoder: Mapped[str] = mapped_column(primary_key=True)
    vector: Mapped[Any] = mapped_column(HALFVEC())


class LocalFeatureSet(Base):
    """The local features of one work by one method, `name@first 16 hex digits of the recipe's digest`."""

    __tablename__ = "local_features"
    work_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("works.id", ondelete="CASCADE"), primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    features: Mapped[bytes]


class Preview(Base):
    """A small picture of a work: to measure error rates with, and shown in reports where the work may be named."""

    __tablename__ = "previews"
    work_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("works.id", ondelete="CASCADE"), primary_key=True)
    webp: Mapped[bytes]


class Calibration(Base):
    """What the engine's error rates rest on, named by the SHA-256 of `content`.

    `inputs` is the digest of what it was fitted to: the compared works, their vectors' encoders and the background. Two
    collections of the same pictures may come to the same content.
    """

    __tablename__ = "calibrations"
    __table_args__ = (length_check("sha256"), length_check("inputs"))
    inputs: Mapped[bytes] = mapped_column(primary_key=True)
    sha256: Mapped[bytes] = mapped_column(index=True)
    content: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()


class TrainingStatement(Base):
    """That the log says what these weights learned from, beside this snapshot: said once of each pair."""

    __tablename__ = "training_statements"
    __table_args__ = (length_check("weights_sha256"), length_check("snapshot"))
    weights_sha256: Mapped[bytes] = mapped_column(primary_key=True)
    snapshot: Mapped[bytes] = mapped_column(primary_key=True)
    leaf_hash: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()


class Snapshot(Base):
    """A collection frozen at a moment, named by its digest; `encoders` maps name → NetworkInfo as indexed.

    Without a `calibration` the collection was frozen by a process without networks: a worker makes the next one.
    """

    __tablename__ = "snapshots"
    __table_args__ = (length_check("digest"), sa.Index("snapshots_newest", "collection_id", "created_at"))
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    collection_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("collections.id"))
    digest: Mapped[bytes]
    works: Mapped[int]
    artists: Mapped[int]
    encoders: Mapped[dict[str, Any]]
    calibration: Mapped[bytes | None]
    leaf_hash: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()
