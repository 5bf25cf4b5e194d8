"""What is recorded: generations, stamps and verifications, with their reports and the drawings in them."""

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa
from pgvector.sqlalchemy import BIT
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from ledger.database.tables.base import Base, created, length_check


class Record(Base):
    """What anyone may look up. Visible only in state `issued`; the order of states is `ledger/issue.py`'s.

    accepted → signed (statement stored, entry in the outbox) → sealed (file durable, "issued" entry in the outbox)
    → issued; or → abandoned, with an entry that says so when a statement had been logged. One that the near-copy gate
    blocked has a statement and an entry of its own.
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
            "records_manifest_urn", "manifest_urn", unique=True, postgresql_where=sa.text("manifest_urn IS NOT NULL")
        ),
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
    created_at: Mapped[dt.datetime] = created()
    issued_at: Mapped[dt.datetime | None]
    erased_at: Mapped[dt.datetime | None]


class Generation(Base):
    """How an image was made here. `prompt` is erasable; the log holds only its salted commitment."""

    __tablename__ = "generations"
    __table_args__ = (sa.Index("generations_model", sa.text("(model ->> 'name')")),)
    record_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("records.id"), primary_key=True)
    prompt: Mapped[str | None]
    prompt_salt: Mapped[bytes | None]
    seed: Mapped[int] = mapped_column(sa.BigInteger)
    parameters: Mapped[dict[str, Any]] = mapped_column(
        comment="steps, width, height, guidance: as asked for, then as used; the number of unknown words"
    )
    unknown_words: Mapped[list[str] | None] = mapped_column(
        ARRAY(sa.Text), comment="Of the prompt, and erasable with it: what the generator never learned."
    )
    model: Mapped[dict[str, Any] | None] = mapped_column(comment="NetworkInfo of the generator that made it")


class Stamp(Base):
    """What a submitter declared of an image made elsewhere."""

    __tablename__ = "stamps"
    __table_args__ = (sa.Index("stamps_declared_model", "declared_model"),)
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
    """Canonical JSON (RFC 8785), of a blocked record its evidence alone; the statement commits to its sha256."""

    __tablename__ = "reports"
    __table_args__ = (length_check("sha256"),)
    record_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("records.id"), primary_key=True)
    sha256: Mapped[bytes]
    body: Mapped[bytes]


class Picture(Base):
    """A drawing that a report's evidence names by its SHA-256: a matched region, in the image and in the work."""

    __tablename__ = "pictures"
    __table_args__ = (length_check("sha256"),)
    record_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("records.id"), primary_key=True)
    sha256: Mapped[bytes] = mapped_column(primary_key=True)
    png: Mapped[bytes]


class SignedReport(Base):
    """A record's report as PDF, drawn up and signed when it was first wanted, and these bytes ever after. It holds its
    dossier; with the record it is erased."""

    __tablename__ = "signed_reports"
    __table_args__ = (length_check("sha256"),)
    record_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("records.id"), primary_key=True)
    sha256: Mapped[bytes]
    pdf: Mapped[bytes]
    created_at: Mapped[dt.datetime] = created()


class Credit(Base):
    """That the evidence of a record found a work, or on the axis of style an artist's hand (`ledger.crediting`)."""

    __tablename__ = "credits"
    __table_args__ = (
        sa.CheckConstraint("axis IN ('identity', 'copy', 'style', 'content')", name="axis_known"),
        sa.CheckConstraint("(work_id IS NULL) = (axis = 'style')", name="style_has_no_work"),
    )
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    record_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("records.id"), index=True)
    axis: Mapped[str]
    artist_id: Mapped[uuid.UUID] = mapped_column(sa.ForeignKey("artists.id"), index=True)
    work_id: Mapped[uuid.UUID | None] = mapped_column(sa.ForeignKey("works.id"), index=True)
    p_value: Mapped[float | None]
    created_at: Mapped[dt.datetime] = created()
