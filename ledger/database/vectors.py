"""Embeddings in and out of Postgres, by binary COPY as halfvec (float16): 2 bytes a dimension."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.psycopg import register_vector
from psycopg import Connection
from sqlalchemy.orm import Session

from ledger.database.tables.works import Embedding

ROWS = 5000  # read at a time


def replace(session: Session, encoder: str, works: Sequence[uuid.UUID], rows: NDArray[np.float32]) -> None:
    """Store one vector per work, (n, dim) float32, in the session's transaction, in place of an earlier one."""
    session.execute(sa.delete(Embedding).where(Embedding.encoder == encoder, Embedding.work_id.in_(works)))
    session.flush()
    connection = _connection(session)
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY embeddings (work_id, encoder, vector) FROM STDIN WITH (FORMAT BINARY)") as copy,
    ):
        copy.set_types(["uuid", "text", "halfvec"])
        for work, row in zip(works, rows, strict=True):
            copy.write_row((work, encoder, HalfVector(row)))


class Missing(LookupError):
    """Some of the works asked for have no vector of this encoder."""


def read(
    session: Session, encoder: str, collection_id: uuid.UUID, works: Sequence[str]
) -> Iterator[NDArray[np.float16]]:
    """Yield (b, dim) float16 rows, bit for bit as stored, in the order of `works` of one collection.

    5,000 works at a time are held. Raises Missing.
    """
    connection = _connection(session)
    with connection.cursor(binary=True) as cursor:
        for first in range(0, len(works), ROWS):
            asked = works[first : first + ROWS]
            cursor.execute(
                "SELECT e.work_id, e.vector FROM embeddings e JOIN works w ON w.id = e.work_id"
                " WHERE e.encoder = %s AND w.collection_id = %s AND e.work_id = ANY(%s::uuid[])",
                (encoder, collection_id, list(asked)),
            )
            found: dict[str, HalfVector] = {str(work): vector for work, vector in cursor}
            if len(found) < len(asked):
                raise Missing(f"{len(asked) - len(found)} works without a vector of {encoder}")
            yield np.stack([found[work].to_numpy() for work in asked])


def load(session: Session, encoder: str, collection_id: uuid.UUID, works: Sequence[str]) -> NDArray[np.float32] | None:
    """(n, dim) float32 in the order of `works` of one collection, or None when a work has no vector of this encoder."""
    try:
        blocks = list(read(session, encoder, collection_id, works))
    except Missing:
        return None
    return np.concatenate(blocks).astype(np.float32) if blocks else None


def _connection(session: Session) -> "Connection[tuple[Any, ...]]":
    connection: Connection[tuple[Any, ...]] = session.connection().connection.driver_connection  # type: ignore[assignment]
    register_vector(connection)
    return connection
