"""Files that no row names: left by a process that died between a file and its row, or in the middle of a deletion.

Keys tell what they belong to: `sources/<record id>` and `uploads/<record id>` are wanted while that record is being
made, `files/<sha256>.<type>` while a record that is not erased has that file, `claims/<claim id>/…` while that claim
names the key, `enrolments/<id>` while that enrolment waits. Anything else in the store is not ours.
"""

import datetime as dt
import itertools
import re
import uuid
from collections.abc import Sequence

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Session

from ledger import erasure
from ledger.database.tables.artists import Enrolment
from ledger.database.tables.claims import Claim
from ledger.database.tables.records import Record
from ledger.runtime import Runtime

log = structlog.get_logger()

GRACE = dt.timedelta(days=1)
"""A file is written before the row that names it; no transaction, and no laptop asleep in one, takes this long."""

PREFIXES = ("sources", "uploads", "files", "claims", "enrolments")
_OF_RECORD = re.compile(r"(?:sources|uploads)/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(#\d+)?")
_OF_FILE = re.compile(r"files/([0-9a-f]{64})\.(?:png|jpeg|webp)(#\d+)?")
_OF_CLAIM = re.compile(r"(claims/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/(?:image|work))(#\d+)?")
_OF_ENROLMENT = re.compile(r"(enrolments/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(#\d+)?")
_AT_ONCE = 500


def sweep(runtime: Runtime, grace: dt.timedelta = GRACE) -> int:
    """Finish deletions that were cut short, then delete what no row names and is older than `grace`; returns how many.

    Never run it on a database older than its files: the sequencer, which refuses such a database, has to be open.
    """
    swept = _finish_erasures(runtime)
    older_than = runtime.clock() - grace
    for prefix in PREFIXES:
        old = (key for key, modified in runtime.storage.stored(prefix) if modified < older_than)
        while keys := list(itertools.islice(old, _AT_ONCE)):
            with runtime.sessions() as session:
                unnamed = _unnamed(session, keys)
            for key in unnamed:
                runtime.storage.delete(key)
            swept += len(unnamed)
    if swept:
        log.info("swept", files=swept)
    return swept


def _finish_erasures(runtime: Runtime) -> int:
    with runtime.sessions() as session:
        left = session.execute(
            sa.select(Record.id, Record.file_key).where(Record.erased_at.is_not(None), Record.file_key.is_not(None))
        ).all()
    for record_id, file_key in left:
        erasure.delete_file(runtime, record_id, str(file_key))
    return len(left)


def _unnamed(session: Session, keys: Sequence[str]) -> list[str]:
    """Those of `keys` that are ours by their form and wanted by nobody."""
    of_record = {key: uuid.UUID(match[1]) for key in keys if (match := _OF_RECORD.fullmatch(key))}
    of_file = {key: bytes.fromhex(match[1]) for key in keys if (match := _OF_FILE.fullmatch(key))}
    half_written = {key for key in keys if "#" in key}
    unfinished = sa.or_(
        Record.state == "accepted", sa.and_(Record.state.in_(("signed", "sealed")), Record.kind != "verification")
    )
    making = session.scalars(sa.select(Record.id).where(Record.id.in_(of_record.values()), unfinished))
    kept = session.scalars(
        sa.select(Record.file_sha256).where(Record.file_sha256.in_(of_file.values()), Record.file_key.is_not(None))
    )
    of_claim = {key: match[1] for key in keys if (match := _OF_CLAIM.fullmatch(key))}
    claimed = session.scalars(
        sa.union(*(sa.select(key).where(key.in_(of_claim.values())) for key in (Claim.image_key, Claim.work_key)))
    )
    of_enrolment = {key: match[1] for key in keys if (match := _OF_ENROLMENT.fullmatch(key))}
    waiting = session.scalars(sa.select(Enrolment.file_key).where(Enrolment.file_key.in_(of_enrolment.values())))
    wanted: set[object] = {*making, *kept, *claimed, *waiting}
    named: dict[str, object] = of_record | of_file | of_claim | of_enrolment
    return [key for key in named if key in half_written or named[key] not in wanted]
