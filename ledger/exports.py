"""Rows of the log as files: NDJSON, one row a line, or Parquet with the checkpoint in its metadata.

Both hold every row's proof, so a file can be checked by itself with the log's key (docs/audit-a-month.ipynb does).
"""

import datetime as dt
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ledger.disclosure import Row
from ledger.log.shard import Head

SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("leaf_hash", pa.string()),
        ("integrated_at", pa.timestamp("us", tz="UTC")),
        ("type", pa.string()),
        ("issuer", pa.string()),
        ("redacted", pa.bool_()),
        ("payload", pa.string()),
        ("record", pa.string()),
        ("entry", pa.string()),
        ("proof", pa.string()),
    ]
)
"""As `disclosure.Row`; `payload` and `record` are JSON texts, or null."""

GROUP_ROWS = 5_000
"""Of a row group: what is held in memory at a time, some 10 MB."""


def ndjson(batches: Iterable[list[Row]]) -> Iterator[bytes]:
    """A line for each row, in pieces of one batch."""
    for rows in batches:
        yield b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def parquet(batches: Iterable[list[Row]], head: Head, origin: str, path: Path) -> int:
    """Write the rows to `path`; returns how many. The schema's metadata has `origin`, `size` and `checkpoint`, the
    signed note that all proofs lead to."""
    described = SCHEMA.with_metadata(
        {"origin": origin, "size": str(head.size), "checkpoint": head.note.decode(), "written": "by Lawful Ledger"}
    )
    count = 0
    with pq.ParquetWriter(path, described, compression="zstd") as writer:
        for group in _groups(batches):
            writer.write_table(pa.Table.from_pylist([_columns(row) for row in group], schema=described))
            count += len(group)
    return count


def _groups(batches: Iterable[list[Row]]) -> Iterator[list[Row]]:
    group: list[Row] = []
    for rows in batches:
        group += rows
        if len(group) >= GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _columns(row: Row) -> dict[str, object]:
    columns: dict[str, object] = msgspec.to_builtins(row)
    columns["integrated_at"] = dt.datetime.fromisoformat(row.integrated_at)
    for name in ("payload", "record"):
        columns[name] = None if columns[name] is None else json.dumps(columns[name], ensure_ascii=False)
    return columns
