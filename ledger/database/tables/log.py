"""The log, append-only but for its outbox and where it stands (see migrations); its witnesses and announced keys."""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from ledger.database.tables.base import Base, created, length_check


class LogShard(Base):
    """One tree: a year, an origin, a key. `name` is the origin's last part."""

    __tablename__ = "log_shards"
    name: Mapped[str] = mapped_column(primary_key=True)
    origin: Mapped[str] = mapped_column(unique=True)
    vkey: Mapped[str]
    created_at: Mapped[dt.datetime] = created()


class LogOutbox(Base):
    """Statements waiting to be sequenced. Written in a use case's own transaction, emptied by the sequencer's."""

    __tablename__ = "log_outbox"
    __table_args__ = (
        length_check("leaf_hash"),
        sa.CheckConstraint("octet_length(entry) BETWEEN 1 AND 65535", name="entry_fits"),
    )
    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(always=True), primary_key=True)
    leaf_hash: Mapped[bytes] = mapped_column(unique=True)
    entry: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()


class LogEntry(Base):
    __tablename__ = "log_entries"
    __table_args__ = (
        sa.UniqueConstraint("shard", "leaf_hash"),
        sa.Index("log_entries_created_at", "created_at", postgresql_using="brin"),
        length_check("leaf_hash"),
        sa.CheckConstraint("octet_length(entry) BETWEEN 1 AND 65535", name="entry_fits"),
        sa.CheckConstraint("idx >= 0", name="idx_not_negative"),
    )
    shard: Mapped[str] = mapped_column(primary_key=True)
    idx: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    leaf_hash: Mapped[bytes]
    entry: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()


class LogTile(Base):
    """A full tile of 256 hashes (8,192 bytes), the sixteen hashes half-way up the tree over them, and its root: the
    tile's hash in the level above.

    Partial tiles are derived from entries and from these roots, never stored.
    """

    __tablename__ = "log_tiles"
    __table_args__ = (length_check("data", length=8192), length_check("middle", length=512), length_check("root"))
    shard: Mapped[str] = mapped_column(sa.ForeignKey("log_shards.name"), primary_key=True)
    level: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True)
    idx: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    root: Mapped[bytes]
    middle: Mapped[bytes]
    data: Mapped[bytes]


class LogCheckpoint(Base):
    """One signed head per size. `note` is the C2SP signed note, byte for byte as published."""

    __tablename__ = "log_checkpoints"
    __table_args__ = (length_check("root"),)
    shard: Mapped[str] = mapped_column(sa.ForeignKey("log_shards.name"), primary_key=True)
    size: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    root: Mapped[bytes]
    note: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()


class LogPublished(Base):
    """The newest head that was made durable beside the log key: nothing newer is shown or acknowledged to anybody.

    One row a shard, moved forward by the active sequencer after each commit.
    """

    __tablename__ = "log_published"
    shard: Mapped[str] = mapped_column(sa.ForeignKey("log_shards.name"), primary_key=True)
    size: Mapped[int] = mapped_column(sa.BigInteger)
    published_at: Mapped[dt.datetime] = created()


class LogWitnessed(Base):
    """A published checkpoint with enough cosignatures for a policy; `note` carries the log's line and theirs."""

    __tablename__ = "log_witnessed"
    __table_args__ = (length_check("policy_sha256"),)
    shard: Mapped[str] = mapped_column(sa.ForeignKey("log_shards.name"), primary_key=True)
    size: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    policy_sha256: Mapped[bytes] = mapped_column(primary_key=True)
    note: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()


WITNESSED_HEADS = sa.table("log_witnessed_heads", sa.column("shard", sa.Text), sa.column("size", sa.BigInteger))
"""A view: the row of `log_witnessed` that counts under the policy in force, none or one a shard. What counts is
defined there alone."""


class LogPolicy(Base):
    """Each change of the witness policy, in order; `leaf_hash` is its entry's. An empty text: no policy any more."""

    __tablename__ = "log_policies"
    __table_args__ = (length_check("sha256"), length_check("leaf_hash"))
    shard: Mapped[str] = mapped_column(sa.ForeignKey("log_shards.name"), primary_key=True)
    number: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    sha256: Mapped[bytes]
    text: Mapped[str]
    leaf_hash: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()


class LogWitness(Base):
    """How each witness of the policy last answered: what `doctor`, pages and metrics show.

    `overridden_size`: up to which size an operator disbelieves its claims; `override_leaf` is the entry that says so.
    """

    __tablename__ = "log_witnesses"
    __table_args__ = (length_check("override_leaf"),)
    shard: Mapped[str] = mapped_column(sa.ForeignKey("log_shards.name"), primary_key=True)
    vkey: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int | None] = mapped_column(sa.BigInteger)
    cosigned_at: Mapped[dt.datetime | None]
    asked_at: Mapped[dt.datetime]
    failure: Mapped[str | None]
    overridden_size: Mapped[int | None] = mapped_column(sa.BigInteger)
    override_leaf: Mapped[bytes | None]


class LogTimestamp(Base):
    """An RFC 3161 token over SHA-256 of a published checkpoint's note text: an outsider's word on its time."""

    __tablename__ = "log_timestamps"
    shard: Mapped[str] = mapped_column(sa.ForeignKey("log_shards.name"), primary_key=True)
    size: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    token: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()


class AnnouncedKey(Base):
    """A key that an entry of the log announced. `kid` is SHA-256 of `public_key`: raw Ed25519 for statements,
    SubjectPublicKeyInfo (DER) for receipts and reports, the certificate (DER) for credentials.

    The row without `retired_at` decides which key of a use is in force, for every process. `compromised_leaf` is the
    leaf hash of the entry that says that somebody else may have this key.
    """

    __tablename__ = "announced_keys"
    __table_args__ = (
        length_check("kid"),
        length_check("leaf_hash"),
        length_check("compromised_leaf"),
        sa.CheckConstraint("use IN ('statements', 'receipts', 'credentials', 'reports')", name="use_known"),
        sa.Index("announced_keys_in_force", "use", unique=True, postgresql_where=sa.text("retired_at IS NULL")),
    )
    use: Mapped[str] = mapped_column(primary_key=True)
    kid: Mapped[bytes] = mapped_column(primary_key=True)
    public_key: Mapped[bytes]
    entry: Mapped[bytes]
    leaf_hash: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()
    retired_at: Mapped[dt.datetime | None]
    compromised_leaf: Mapped[bytes | None]
