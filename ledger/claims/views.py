"""Claims as anyone may see them: what was claimed, each step with its place in the log, the newest decision."""

import base64
import datetime as dt
import uuid
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from cryptography.hazmat.primitives import hashes
from sqlalchemy.orm import Session

from ledger import jobs
from ledger.claims import moving
from ledger.claims.rules import Decision
from ledger.claims.steps import WAITING, Event, State, events
from ledger.database.tables.claims import Claim, ClaimDocument, ClaimStep
from ledger.database.tables.log import LogEntry
from ledger.database.tables.works import Artist, Work
from ledger.errors import NotFound
from ledger.log import entries
from ledger.log.statements import parse_statement
from ledger.reports.announced import announcements
from ledger.runtime import Runtime

SIGNED_SCHEMA = "lawful-ledger/signed-claim-report/1"
PAGE = 50
OF_STEP = sa.and_(ClaimDocument.claim_id == ClaimStep.claim_id, ClaimDocument.number == ClaimStep.number)


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """`index` is None while the entry is on its way into the log. `words`: an answer's or an appeal's."""

    number: int
    event: Event
    state: State
    by_role: str
    at: str
    leaf_hash: str
    index: int | None
    words: str | None = None


class ClaimView(msgspec.Struct, frozen=True, kw_only=True):
    """A claim. `claimant` is the name that was given, which nobody checked; `decision` the newest one, whose `claimant`
    says whether that was. A protected work has no id here. Erased: only kind, record and steps are left.
    `failures`: how often its examination has failed so far, while it waits for one."""

    id: str
    kind: str
    state: State
    about: str | None
    work_id: str | None
    work: str | None
    claimant: str | None
    words: str | None
    made_on: str | None
    decision: Decision | None
    steps: list[StepView]
    next_events: list[Event]
    failures: int
    created_at: str
    erased: bool


class ClaimLine(msgspec.Struct, frozen=True, kw_only=True):
    """A claim in a list."""

    id: str
    kind: str
    state: State
    about: str | None
    outcome: Literal["supported", "contradicted", "inconclusive"] | None
    created_at: str


def view(session: Session, runtime: Runtime, claim_id: uuid.UUID) -> ClaimView:
    """Raises NotFound `claim_unknown`."""
    claim = session.get(Claim, claim_id)
    if claim is None:
        raise moving.unknown(claim_id)
    documents: dict[int, dict[str, Any]] = {
        row.number: msgspec.json.decode(row.body)
        for row in session.scalars(sa.select(ClaimDocument).where(ClaimDocument.claim_id == claim_id))
    }
    rows = session.execute(
        sa.select(ClaimStep, entries.published_index(ClaimStep.leaf_hash))
        .where(ClaimStep.claim_id == claim_id)
        .order_by(ClaimStep.number)
    ).all()
    state: State = rows[-1][0].state  # type: ignore[assignment]  # the column's check allows no other words
    said = documents.get(0, {})
    decided = [documents[step.number] for step, _ in rows if step.event == "decide" and step.number in documents]
    work = named_work(session, claim.work_id)
    return ClaimView(
        id=str(claim.id),
        kind=claim.kind,
        state=state,
        about=None if claim.about is None else str(claim.about),
        work_id=None if work is None else str(claim.work_id),
        work=work,
        claimant=said.get("claimant"),
        words=said.get("words"),
        made_on=said.get("made_on"),
        decision=msgspec.convert(decided[-1]["decision"], Decision) if decided else None,
        steps=[_step(step, index, documents) for step, index in rows],
        next_events=[] if claim.erased_at is not None else events(state),
        failures=_failures(session, claim_id) if state in WAITING else 0,
        created_at=_text(rows[0][0].created_at),
        erased=claim.erased_at is not None,
    )


def newest_claims(
    session: Session,
    *,
    about: uuid.UUID | None = None,
    identity_id: uuid.UUID | None = None,
    before: uuid.UUID | None = None,
    limit: int = PAGE,
) -> list[ClaimLine]:
    """Claims, the newest first: all, those on one record, or one person's. Ids are in the order of time, so the id of
    the last one is the cursor for those `before` it."""
    last = (
        sa.select(ClaimStep.state)
        .where(ClaimStep.claim_id == Claim.id)
        .order_by(ClaimStep.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    decided = (
        sa.select(ClaimDocument.body)
        .join(ClaimStep, OF_STEP)
        .where(ClaimDocument.claim_id == Claim.id, ClaimStep.event == "decide")
        .order_by(ClaimDocument.number.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = sa.select(Claim, last, decided).order_by(Claim.id.desc()).limit(limit)
    for column, wanted in ((Claim.about, about), (Claim.identity_id, identity_id)):
        if wanted is not None:
            query = query.where(column == wanted)
    if before is not None:
        query = query.where(Claim.id < before)
    return [
        ClaimLine(
            id=str(claim.id),
            kind=claim.kind,
            state=state,
            about=None if claim.about is None else str(claim.about),
            outcome=None if body is None else msgspec.json.decode(body)["decision"]["outcome"],
            created_at=_text(claim.created_at),
        )
        for claim, state, body in session.execute(query)
    ]


def report(session: Session, claim_id: uuid.UUID) -> bytes:
    """The newest decision's report, byte for byte as its entry commits to it.

    Raises NotFound `claim_unknown`, `claim_undecided`, `claim_erased`.
    """
    return newest_decision(session, claim_id)[1]


def signed_report(session: Session, runtime: Runtime, claim_id: uuid.UUID) -> dict[str, Any]:
    """The report with what shows that this ledger signed and logged it: statement, salt, the log's own proof, and the
    announcements of the keys that sign, proved likewise.

    `report` has to be written in RFC 8785 form to get the bytes that are committed to. Raises as `report` does, and
    NotFound `entry_not_integrated` while the log has not taken the decision's entry.
    """
    step, body = newest_decision(session, claim_id)
    claim = session.get_one(Claim, claim_id)
    assert claim.salt is not None
    place = entries.inclusion(session, runtime.shard, step.leaf_hash)
    entry = session.scalars(
        sa.select(LogEntry.entry).where(LogEntry.shard == runtime.shard, LogEntry.leaf_hash == step.leaf_hash)
    ).one()
    return {
        "schema": SIGNED_SCHEMA,
        "report": msgspec.json.decode(body),
        "statement": base64.b64encode(entry).decode(),
        "salt": claim.salt.hex(),
        "tlog_proof": place.tlog_proof.decode(),
        "keys": announcements(
            session,
            runtime.shard,
            place,
            statement_kid=parse_statement(entry).kid,
            certificate_sha256=runtime.keys.credential.leaf.fingerprint(hashes.SHA256()),
        ),
    }


def newest_decision(session: Session, claim_id: uuid.UUID) -> tuple[ClaimStep, bytes]:
    """The step and its report. Raises as `report` does."""
    claim = session.get(Claim, claim_id)
    if claim is None:
        raise moving.unknown(claim_id)
    if claim.erased_at is not None:
        raise NotFound(
            "the claim's content was deleted on request", code="claim_erased", next_step="its steps are in the log"
        )
    row = session.execute(
        sa.select(ClaimStep, ClaimDocument.body)
        .join(ClaimDocument, OF_STEP)
        .where(ClaimStep.claim_id == claim_id, ClaimStep.event == "decide")
        .order_by(ClaimStep.number.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        raise NotFound(
            "the claim is not decided yet", code="claim_undecided", next_step="ask again when its state says so"
        )
    return row[0], row[1]


def _failures(session: Session, claim_id: uuid.UUID) -> int:
    return session.scalar(sa.select(jobs.failures(sa.literal(claim_id)))) or 0


def named_work(session: Session, work_id: uuid.UUID | None) -> str | None:
    """A work's title and artist, where it may be named."""
    row = session.execute(
        sa.select(Work.title, Artist.name)
        .join(Artist, Artist.id == Work.artist_id)
        .where(Work.id == work_id, Work.grant_name)
    ).one_or_none()
    return None if row is None else f"{row.title} by {row.name}"


def _step(step: ClaimStep, index: int | None, documents: dict[int, dict[str, Any]]) -> StepView:
    said = documents.get(step.number, {}) if step.event in {"answer", "appeal"} else {}
    return StepView(
        number=step.number,
        event=step.event,  # type: ignore[arg-type]  # the column's check allows no other words
        state=step.state,  # type: ignore[arg-type]
        by_role=step.by_role,
        at=_text(step.created_at),
        leaf_hash=step.leaf_hash.hex(),
        index=index,
        words=said.get("words"),
    )


def _text(value: dt.datetime) -> str:
    return value.astimezone(dt.UTC).isoformat()
