"""A claim's dossier: its newest decision, every step so far as the log holds it, what the other side said.

A claim moves on, so its dossier is one of the claim as it stood after a step; each step has another.
"""

import base64
import json
import uuid

import msgspec
import rfc8785
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger import lookup
from ledger.claims import views
from ledger.claims.examined import drawings
from ledger.database.tables.claims import Claim, ClaimDocument, ClaimStep
from ledger.database.tables.log import LogEntry
from ledger.log.entries import Inclusion
from ledger.reports.claim_schema import LoggedStep
from ledger.reports.dossier import (
    MAX_PICTURE_BYTES,
    REPORT,
    STEPS,
    ClaimDossier,
    ClaimFacts,
    digests,
    match_name,
    picture_name,
    places,
    proved,
    software,
)
from ledger.runtime import Runtime

REPLIES = ("answer", "appeal")


def gather_claim(session: Session, runtime: Runtime, claim_id: uuid.UUID) -> ClaimDossier:
    """The dossier of a decided claim, as it stands now.

    Raises NotFound `claim_unknown`, `claim_undecided` or `claim_erased`, `proof_pending` while no published checkpoint
    covers its newest step, Inconsistent `key_not_announced`, and as the log and the storage.
    """
    decided, body = views.newest_decision(session, claim_id)
    claim = session.get_one(Claim, claim_id)
    assert claim.salt is not None
    steps = session.scalars(sa.select(ClaimStep).where(ClaimStep.claim_id == claim_id).order_by(ClaimStep.number)).all()
    found, witnessed = places(session, runtime.shard, [step.leaf_hash for step in steps])
    logged = {place.leaf_hash: _entry(session, runtime.shard, place) for place in found}
    place = next(each for each in found if each.leaf_hash == decided.leaf_hash)
    parts = {
        REPORT: body,
        STEPS: rfc8785.dumps([
            msgspec.to_builtins(_step(session, step, logged[place.leaf_hash], place))
            for step, place in zip(steps, found, strict=True)
        ]),
        **proved(session, runtime, logged[decided.leaf_hash], place, list(logged.values())),
    }  # fmt: skip
    assert decided.previous is not None
    parts |= {match_name(name): png for name, png in drawings(session, claim_id, decided.previous).items()}
    media_type = None
    if claim.about is not None:
        key, media_type = lookup.file_key(session, claim.about)
        data = runtime.storage.get(key)
        if len(data) <= MAX_PICTURE_BYTES:
            parts[picture_name(media_type)] = data
    return ClaimDossier(
        ClaimFacts(
            software=software(),
            drawn_up_at=runtime.clock().replace(microsecond=0).isoformat(),
            claim_id=str(claim_id),
            step=steps[-1].number,
            about=str(claim.about) if claim.about is not None else None,
            work=views.named_work(session, claim.work_id),
            origin=runtime.settings.origin,
            public_url=runtime.settings.public_url,
            log_vkey=runtime.keys.log.vkey,
            root_pem=runtime.keys.root_pem,
            salt=claim.salt.hex(),
            media_type=media_type,
            witnessed=witnessed,
            parts=digests(parts),
        ),
        parts,
    )


def _entry(session: Session, shard: str, place: Inclusion) -> bytes:
    return session.scalars(sa.select(LogEntry.entry).where(LogEntry.shard == shard, LogEntry.idx == place.index)).one()


def _step(session: Session, step: ClaimStep, entry: bytes, place: Inclusion) -> LoggedStep:
    said = None
    if step.event in REPLIES:
        said = json.loads(session.get_one(ClaimDocument, (step.claim_id, step.number)).body)
    return LoggedStep(
        statement=base64.b64encode(entry).decode(), tlog_proof=place.tlog_proof.decode(), document=said
    )  # fmt: skip
