"""The tables, as SQLAlchemy 2 mappings. `migrations/` creates them; a test compares the two."""

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa
from pgvector.sqlalchemy import BIT, HALFVEC
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Timestamp = sa.TIMESTAMP(timezone=True)


class Base(DeclarativeBase):
    """Columns are NOT NULL unless typed `| None`; digests are raw bytes."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declarative hook
        bytes: sa.LargeBinary,
        dt.datetime: Timestamp,
        dict[str, Any]: JSONB,
        str: sa.Text,
        uuid.UUID: sa.Uuid,
    }


def _digest(column: str, *, length: int = 32) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"octet_length({column}) = {length}", name=f"{column}_is_{length}_bytes")


def _created() -> Mapped[dt.datetime]:
    return mapped_column(server_default=sa.func.now())


# ---- who may write -------------------------------------------------------------------------------------------------


class Principal(Base):
    """Somebody who may write. With `generator` set, their stamps may claim that this model made the image."""

    __tablename__ = "principals"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[str] = mapped_column(
        sa.Text, sa.CheckConstraint("role IN ('operator', 'submitter')", name="role_known")
    )
    generator: Mapped[str | None]
    created_at: Mapped[dt.datetime] = _created()


class ApiKey(Base):
    """A key's SHA-256; the key itself is shown once and never stored."""

    __tablename__ = "api_keys"
    __table_args__ = (_digest("key_sha256"),)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    principal_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("principals.id"))
    key_sha256: Mapped[bytes] = mapped_column(unique=True)
    label: Mapped[str]
    created_at: Mapped[dt.datetime] = _created()
    revoked_at: Mapped[dt.datetime | None]


# ---- what is compared with -----------------------------------------------------------------------------------------


class Collection(Base):
    __tablename__ = "collections"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[dt.datetime] = _created()


class Artist(Base):
    """Whom works are credited to. A name counts within one collection: two collections' namesakes stay two artists."""

    __tablename__ = "artists"
    __table_args__ = (sa.UniqueConstraint("collection_id", "name"),)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    collection_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("collections.id"))
    name: Mapped[str]
    created_at: Mapped[dt.datetime] = _created()


class Work(Base):
    """One image of a collection, with its three grants as they stand now (`grant_changes` holds their history)."""

    __tablename__ = "works"
    __table_args__ = (
        sa.UniqueConstraint("collection_id", "artist_id", "file_sha256"),
        _digest("file_sha256"),
        _digest("pixel_sha256"),
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
    created_at: Mapped[dt.datetime] = _created()


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
    created_at: Mapped[dt.datetime] = _created()


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
    __table_args__ = (_digest("sha256"), _digest("inputs"))
    inputs: Mapped[bytes] = mapped_column(primary_key=True)
    sha256: Mapped[bytes] = mapped_column(index=True)
    content: Mapped[bytes]
    created_at: Mapped[dt.datetime] = _created()


class Snapshot(Base):
    """A collection frozen at a moment, named by its digest; `encoders` maps name → NetworkInfo as indexed.

    Without a `calibration` the collection was frozen by a process without networks: a worker makes the next one.
    """

    __tablename__ = "snapshots"
    __table_args__ = (_digest("digest"), sa.Index("snapshots_newest", "collection_id", "created_at"))
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    collection_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("collections.id"))
    digest: Mapped[bytes]
    works: Mapped[int]
    artists: Mapped[int]
    encoders: Mapped[dict[str, Any]]
    calibration: Mapped[bytes | None]
    leaf_hash: Mapped[bytes]
    created_at: Mapped[dt.datetime] = _created()


# ---- what is recorded ----------------------------------------------------------------------------------------------


class Record(Base):
    """What anyone may look up. Visible only in state `issued`; the order of states is `ledger/issue.py`'s.

    accepted → signed (statement stored, entry in the outbox) → sealed (file durable, "issued" entry in the outbox)
    → issued; or → abandoned, with an entry that says so when a statement had been logged.
    """

    __tablename__ = "records"
    __table_args__ = (
        sa.UniqueConstraint("principal_id", "idempotency_key"),
        sa.CheckConstraint("kind IN ('generation', 'stamp', 'verification')", name="kind_known"),
        sa.CheckConstraint("state IN ('accepted', 'signed', 'sealed', 'issued', 'abandoned')", name="state_known"),
        sa.CheckConstraint(
            "state IN ('accepted', 'abandoned') OR (statement IS NOT NULL AND leaf_hash IS NOT NULL)",
            name="signed_has_statement",
        ),
        sa.CheckConstraint(
            "state NOT IN ('sealed', 'issued') OR kind = 'verification'"
            " OR (file_sha256 IS NOT NULL AND file_key IS NOT NULL AND issued_leaf IS NOT NULL)"
            " OR erased_at IS NOT NULL",
            name="sealed_has_file",
        ),
        sa.Index("records_file_sha256", "file_sha256", postgresql_where=sa.text("file_sha256 IS NOT NULL")),
        sa.Index(
            "records_submitted_sha256", "submitted_sha256", postgresql_where=sa.text("submitted_sha256 IS NOT NULL")
        ),
        sa.Index("records_pixel_sha256", "pixel_sha256", postgresql_where=sa.text("pixel_sha256 IS NOT NULL")),
        sa.Index("records_iscc", "iscc", postgresql_where=sa.text("iscc IS NOT NULL")),
        sa.Index(
            "records_unfinished",
            "created_at",
            postgresql_where=sa.text("state IN ('accepted', 'signed', 'sealed')"),
        ),
        sa.Index("records_leaf_hash", "leaf_hash"),
        sa.Index(
            "records_pdq_hnsw",
            "pdq",
            postgresql_using="hnsw",
            postgresql_ops={"pdq": "bit_hamming_ops"},
            postgresql_where=sa.text("listed AND pdq IS NOT NULL"),
        ),
        sa.Index(
            "records_iscc_bits_hnsw",
            "iscc_bits",
            postgresql_using="hnsw",
            postgresql_ops={"iscc_bits": "bit_hamming_ops"},
            postgresql_where=sa.text("listed AND iscc_bits IS NOT NULL"),
        ),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    state: Mapped[str]
    principal_id: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("principals.id"))
    idempotency_key: Mapped[str | None]
    request_sha256: Mapped[bytes | None]
    listed: Mapped[bool] = mapped_column(comment="Answers look-ups by hash: generations and stamps once issued.")
    # fingerprints of the finished file and of its pixels; all of them go when the record is erased
    file_sha256: Mapped[bytes | None]
    submitted_sha256: Mapped[bytes | None] = mapped_column(comment="sha256 of the file as it was handed in (stamps).")
    pixel_sha256: Mapped[bytes | None]
    iscc: Mapped[str | None] = mapped_column(comment="ISCC Image-Code, 256 bits, as text.")
    iscc_instance: Mapped[str | None]
    iscc_bits: Mapped[str | None] = mapped_column(BIT(256))
    pdq: Mapped[str | None] = mapped_column(BIT(256))
    width: Mapped[int | None]
    height: Mapped[int | None]
    media_type: Mapped[str | None]
    # what the log holds
    salt: Mapped[bytes | None]
    statement: Mapped[bytes | None]
    leaf_hash: Mapped[bytes | None]
    issued_statement: Mapped[bytes | None]
    issued_leaf: Mapped[bytes | None]
    erased_leaf: Mapped[bytes | None] = mapped_column(comment="The entry that says that the content was deleted.")
    # the file
    source_key: Mapped[str | None] = mapped_column(comment="Storage key of the image before its credential.")
    file_key: Mapped[str | None] = mapped_column(comment="Storage key of the finished file.")
    manifest_urn: Mapped[str | None]
    claim_sha256: Mapped[bytes | None]
    failure: Mapped[dict[str, Any] | None] = mapped_column(comment="code, detail, next_step, status of what ended it.")
    created_at: Mapped[dt.datetime] = _created()
    issued_at: Mapped[dt.datetime | None]
    erased_at: Mapped[dt.datetime | None]


class Generation(Base):
    """How an image was made here. `prompt` is erasable; the log holds only its salted commitment."""

    __tablename__ = "generations"
    record_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("records.id"), primary_key=True)
    prompt: Mapped[str | None]
    prompt_salt: Mapped[bytes | None]
    seed: Mapped[int] = mapped_column(sa.BigInteger)
    parameters: Mapped[dict[str, Any]] = mapped_column(
        comment="steps, width, height, guidance: as asked for, then as used"
    )
    model: Mapped[dict[str, Any] | None] = mapped_column(comment="NetworkInfo of the generator that made it")


class Stamp(Base):
    """What a submitter declared of an image made elsewhere."""

    __tablename__ = "stamps"
    record_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("records.id"), primary_key=True)
    declared_model: Mapped[str | None]
    prompt: Mapped[str | None]
    prompt_salt: Mapped[bytes | None]
    prompt_commitment: Mapped[str | None] = mapped_column(
        comment="Hex; made by the submitter when the prompt stays there."
    )
    parent_manifest_urn: Mapped[str | None]
    ai_origin: Mapped[bool] = mapped_column(
        comment="May say AI-made: our own generation, or a submitter registered to the generator named."
    )


class Verification(Base):
    """What one look at an image answered. The image itself is not kept."""

    __tablename__ = "verifications"
    record_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("records.id"), primary_key=True)
    upload_key: Mapped[str | None] = mapped_column(comment="Storage key while it waits for the worker; then deleted.")
    result: Mapped[dict[str, Any] | None]


class Report(Base):
    """Canonical JSON (RFC 8785); the record's statement commits to its sha256."""

    __tablename__ = "reports"
    __table_args__ = (_digest("sha256"),)
    record_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("records.id"), primary_key=True)
    sha256: Mapped[bytes]
    body: Mapped[bytes]


class Picture(Base):
    """A drawing that a report's evidence names by its SHA-256: a matched region, in the image and in the work."""

    __tablename__ = "pictures"
    __table_args__ = (_digest("sha256"),)
    record_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("records.id"), primary_key=True)
    sha256: Mapped[bytes] = mapped_column(primary_key=True)
    png: Mapped[bytes]


# ---- the log (append-only; see migrations for the triggers) ---------------------------------------------------------


class LogShard(Base):
    """One tree: a year, an origin, a key. `name` is the origin's last part."""

    __tablename__ = "log_shards"
    name: Mapped[str] = mapped_column(primary_key=True)
    origin: Mapped[str] = mapped_column(unique=True)
    vkey: Mapped[str]
    created_at: Mapped[dt.datetime] = _created()


class LogOutbox(Base):
    """Statements waiting to be sequenced. Written in a use case's own transaction, emptied by the sequencer's."""

    __tablename__ = "log_outbox"
    __table_args__ = (
        _digest("leaf_hash"),
        sa.CheckConstraint("octet_length(entry) BETWEEN 1 AND 65535", name="entry_fits"),
    )
    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(always=True), primary_key=True)
    leaf_hash: Mapped[bytes] = mapped_column(unique=True)
    entry: Mapped[bytes]
    created_at: Mapped[dt.datetime] = _created()


class LogEntry(Base):
    __tablename__ = "log_entries"
    __table_args__ = (
        sa.UniqueConstraint("shard", "leaf_hash"),
        _digest("leaf_hash"),
        sa.CheckConstraint("octet_length(entry) BETWEEN 1 AND 65535", name="entry_fits"),
        sa.CheckConstraint("idx >= 0", name="idx_not_negative"),
    )
    shard: Mapped[str] = mapped_column(primary_key=True)
    idx: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    leaf_hash: Mapped[bytes]
    entry: Mapped[bytes]
    created_at: Mapped[dt.datetime] = _created()


class LogTile(Base):
    """A full tile of 256 hashes (8,192 bytes), the sixteen hashes half-way up the tree over them, and its root: the
    tile's hash in the level above.

    Partial tiles are derived from entries and from these roots, never stored.
    """

    __tablename__ = "log_tiles"
    __table_args__ = (_digest("data", length=8192), _digest("middle", length=512), _digest("root"))
    shard: Mapped[str] = mapped_column(sa.ForeignKey("log_shards.name"), primary_key=True)
    level: Mapped[int] = mapped_column(sa.SmallInteger, primary_key=True)
    idx: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    root: Mapped[bytes]
    middle: Mapped[bytes]
    data: Mapped[bytes]


class LogCheckpoint(Base):
    """One signed head per size. `note` is the C2SP signed note, byte for byte as published."""

    __tablename__ = "log_checkpoints"
    __table_args__ = (_digest("root"),)
    shard: Mapped[str] = mapped_column(sa.ForeignKey("log_shards.name"), primary_key=True)
    size: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    root: Mapped[bytes]
    note: Mapped[bytes]
    created_at: Mapped[dt.datetime] = _created()


class LogPublished(Base):
    """The newest head that was made durable beside the log key: nothing newer is shown or acknowledged to anybody.

    One row a shard, moved forward by the active sequencer after each commit.
    """

    __tablename__ = "log_published"
    shard: Mapped[str] = mapped_column(sa.ForeignKey("log_shards.name"), primary_key=True)
    size: Mapped[int] = mapped_column(sa.BigInteger)
    published_at: Mapped[dt.datetime] = _created()


class LogWitnessed(Base):
    """A published checkpoint with enough cosignatures for the policy; `note` carries the log's line and theirs."""

    __tablename__ = "log_witnessed"
    __table_args__ = (_digest("policy_sha256"),)
    shard: Mapped[str] = mapped_column(sa.ForeignKey("log_shards.name"), primary_key=True)
    size: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True)
    policy_sha256: Mapped[bytes] = mapped_column(primary_key=True)
    note: Mapped[bytes]
    created_at: Mapped[dt.datetime] = _created()


class LogPolicy(Base):
    """Each change of the witness policy, in order; `leaf_hash` is its entry's. An empty text: no policy any more."""

    __tablename__ = "log_policies"
    __table_args__ = (_digest("sha256"), _digest("leaf_hash"))
    shard: Mapped[str] = mapped_column(sa.ForeignKey("log_shards.name"), primary_key=True)
    number: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    sha256: Mapped[bytes]
    text: Mapped[str]
    leaf_hash: Mapped[bytes]
    created_at: Mapped[dt.datetime] = _created()


class LogWitness(Base):
    """How each witness of the policy last answered: what `doctor`, pages and metrics show.

    `overridden_size`: up to which size an operator disbelieves its claims; `override_leaf` is the entry that says so.
    """

    __tablename__ = "log_witnesses"
    __table_args__ = (_digest("override_leaf"),)
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
    created_at: Mapped[dt.datetime] = _created()


class AnnouncedKey(Base):
    """A key that an entry of the log announced. `kid` is SHA-256 of `public_key`: raw Ed25519 for statements,
    SubjectPublicKeyInfo (DER) for receipts and reports, the certificate (DER) for credentials.

    The row without `retired_at` decides which key of a use is in force, for every process. `compromised_leaf` is the
    leaf hash of the entry that says that somebody else may have this key.
    """

    __tablename__ = "announced_keys"
    __table_args__ = (
        _digest("kid"),
        _digest("leaf_hash"),
        _digest("compromised_leaf"),
        sa.CheckConstraint("use IN ('statements', 'receipts', 'credentials', 'reports')", name="use_known"),
        sa.Index("announced_keys_in_force", "use", unique=True, postgresql_where=sa.text("retired_at IS NULL")),
    )
    use: Mapped[str] = mapped_column(primary_key=True)
    kid: Mapped[bytes] = mapped_column(primary_key=True)
    public_key: Mapped[bytes]
    entry: Mapped[bytes]
    leaf_hash: Mapped[bytes]
    created_at: Mapped[dt.datetime] = _created()
    retired_at: Mapped[dt.datetime | None]
    compromised_leaf: Mapped[bytes | None]


class SubmitterKey(Base):
    """A key whose statements a submitter may put into the log; its announcement is an entry."""

    __tablename__ = "submitter_keys"
    __table_args__ = (_digest("kid"), _digest("public_key"), _digest("leaf_hash"))
    kid: Mapped[bytes] = mapped_column(primary_key=True)
    principal_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("principals.id"))
    public_key: Mapped[bytes]
    leaf_hash: Mapped[bytes]
    created_at: Mapped[dt.datetime] = _created()
    revoked_at: Mapped[dt.datetime | None]


class Submission(Base):
    """A batch of a submitter's statements under an idempotency key, so that a retry is the same batch or refused."""

    __tablename__ = "submissions"
    __table_args__ = (_digest("body_sha256"),)
    principal_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("principals.id"), primary_key=True)
    idempotency_key: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[bytes]
    created_at: Mapped[dt.datetime] = _created()
