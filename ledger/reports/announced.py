"""The entries that announce the keys behind a file, proved under the same checkpoint as the file's own statement.

They travel in the file (`ledger.reports.build.ledger_assertion`), so that who holds the log's key needs no other.
"""

import base64
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.database.tables.log import AnnouncedKey
from ledger.errors import Inconsistent
from ledger.log import entries
from ledger.log.announcements import KeyUse
from ledger.log.entries import Inclusion
from ledger.log.notes import TlogProof
from ledger.log.statements import parse_statement


def announcements(
    session: Session,
    shard: str,
    place: Inclusion,
    *,
    statement_kid: bytes,
    certificate_sha256: bytes,
    also: Sequence[tuple[KeyUse, bytes]] = (),
) -> list[dict[str, str]]:
    """What announces the statement's key, the credential's certificate and the keys of `also` by (use, kid), and
    whatever signed those entries, down to the genesis: `[{"statement": base64, "tlog_proof": text}]` in the log's
    order.

    Raises Inconsistent code `key_not_announced`.
    """
    wanted: list[tuple[KeyUse, bytes]] = [("statements", statement_kid), ("credentials", certificate_sha256), *also]
    found = dict[bytes, bytes]()
    while wanted:
        use, kid = wanted.pop()
        row = session.execute(
            sa.select(AnnouncedKey.entry, AnnouncedKey.leaf_hash).where(
                AnnouncedKey.use == use, AnnouncedKey.kid == kid
            )
        ).one_or_none()
        if row is None:
            raise Inconsistent(
                f"the log has not announced the key {kid.hex()[:16]} that signs its {use}",
                code="key_not_announced",
                next_step="run `lawful init` again, which announces what is missing; the record is resumed by itself",
            )
        if row.leaf_hash not in found:
            found[row.leaf_hash] = row.entry
            wanted.append(("statements", parse_statement(row.entry).kid))  # a genesis is signed by what it announces
    proved = sorted((*_proof(session, shard, place, leaf), entry) for leaf, entry in found.items())
    return [{"statement": base64.b64encode(entry).decode(), "tlog_proof": proof} for _, proof, entry in proved]


def _proof(session: Session, shard: str, place: Inclusion, leaf: bytes) -> tuple[int, str]:
    """(index, tlog-proof) of an entry under the checkpoint of `place`, with all its signatures."""
    known = entries.find(session, shard, leaf)
    if known is None:
        raise Inconsistent(
            "an announcement of keys has not reached the log",
            code="key_not_announced",
            next_step="wait until the log's sequencer has caught up; the record is resumed by itself",
        )
    path = entries.inclusion_by_index(session, shard, known.index, place.head.size).path
    return known.index, TlogProof(known.index, path, place.head.note).to_bytes().decode()
