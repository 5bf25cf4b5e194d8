"""What every table's mapping stands on."""

import datetime as dt
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Columns are NOT NULL unless typed `| None`; digests are raw bytes."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declarative hook
        bytes: sa.LargeBinary,
        dt.datetime: sa.TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB,
        str: sa.Text,
        uuid.UUID: sa.Uuid,
    }


def length_check(column: str, *, length: int = 32) -> sa.CheckConstraint:
    """The constraint that the bytes in `column` are that many."""
    return sa.CheckConstraint(f"octet_length({column}) = {length}", name=f"{column}_is_{length}_bytes")


def created() -> Mapped[dt.datetime]:
    """When the transaction that wrote the row began, by the database's clock."""
    return mapped_column(server_default=sa.func.now())
