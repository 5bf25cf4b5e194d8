"""Embeddings in and out of Postgres, by binary COPY as halfvec (float16): 2 bytes a dimension."""

import uuid
from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.psycopg import register_vector
from psycopg import Connection
from sqlalchemy.orm import Session

from ledger.database.tables import Embedding


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


def load(session: Session, encoder: str, collection_id: uuid.UUID, works: Sequence[str]) -> NDArray[np.float32] | None:
    """(n, dim) float32 in the order of `works` of one collection, or None when a work has no vector of this encoder."""
    connection = _connection(session)
    at = {work: row for row, work in enumerate(works)}
    matrix: NDArray[np.float32] | None = None
    found = 0
    with connection.cursor(name="vectors", binary=True) as cursor:  # on the server's side: a collection may be large
        cursor.itersize = 5000
        cursor.execute(
            "SELECT e.work_id, e.vector FROM embeddings e JOIN works w ON w.id = e.work_id"
            " WHERE e.encoder = %s AND w.collection_id = %s",
            (encoder, collection_id),
        )
        for work, vector in cursor:
            row = at.get(str(work))
            if row is None:
                continue
            values = vector.to_numpy() if isinstance(vector, HalfVector) else np.asarray(vector)
            if matrix is None:
                matrix = np.empty((len(works), len(values)), np.float32)
            matrix[row] = values
            found += 1
    return matrix if found == len(works) else None


def _connection(session: Session) -> "Connection[tuple[object, ...]]":
    connection: Connection[tuple[object, ...]] = session.connection().connection.driver_connection  # type: ignore[assignment]
    register_vector(connection)
    return connection
