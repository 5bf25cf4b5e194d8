"""Examining a claim and deciding it: the networks' comparison and what is on record become facts, facts a decision.

Two steps, each durable by itself: a process that dies between them leaves an examined claim, which the next one decides
from the stored facts, without looking again.
"""

import datetime as dt
import uuid
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from attribution.evidence import Evidence, StyleAxis
from attribution.fingerprints import Fingerprints, fingerprint
from attribution.levels import askable, axis_tests
from attribution.wording import ALPHA, WHOLE, covered
from ledger import jobs
from ledger.claims import control, moving, on_record, rules, steps
from ledger.claims.examined import Compared
from ledger.claims.facts import CopyFact, Facts, OtherWork, StyleFact, WorkFact
from ledger.claims.on_record import NamedWork
from ledger.claims.opening import Opening, opening_of
from ledger.claims.steps import WAITING
from ledger.database.tables.claims import Claim, ClaimDocument, ClaimPicture
from ledger.database.tables.records import Record
from ledger.database.tables.works import Artist
from ledger.errors import Conflict, NotFound
from ledger.runtime import Runtime

MOST_DOUBLINGS = 20  # of a minute: two years
REPORT_SCHEMA = "lawful-ledger/claim-report/1"
EXAMINED_SCHEMA = "lawful-ledger/claim-examination/1"

NOT_PROVEN = (
    "The decision is about an image and a work. That the claimant is the artist is a separate fact.",
    "Similarity is not authorship, and a resemblance in style is neither a copy nor ownership.",
    "Being first on record proves that pixels existed by a time, not who made them.",
    "That nothing was found does not show that nothing was used.",
    "It is the outcome of published rules, and no court's judgment.",
)

Pixels = NDArray[np.uint8]


class Comparer(Protocol):
    """The networks, as `ledger.examiner.Examiner` provides them."""

    def compare(self, image: Pixels, fingerprints: Fingerprints, work: Pixels | str | None, *, draw: bool) -> Compared:
        """The image against the newest snapshot, and beside one work: its pixels, or the id of one that was indexed."""
        ...


class _Asked(NamedTuple):
    """What is to be compared, read in one short transaction: none is open while networks run."""

    opening: Opening
    identity_id: uuid.UUID | None
    about: uuid.UUID | None
    image_key: str
    work_key: str | None
    named: NamedWork | None


def settle(runtime: Runtime, comparer: Comparer, claim_id: uuid.UUID) -> None:
    """Bring a claim that waits for the ledger to its decision; nothing happens to one that waits for somebody else.

    Doing it twice is harmless, at the same time too: of two decisions one is taken, and the other finds the claim moved
    on. Raises NotFound `claim_unknown`, `file_missing`, and as the comparer does.
    """
    with runtime.sessions() as session:
        state = moving.newest(session, claim_id).state
    if state in {"opened", "appealed"}:
        examine(runtime, comparer, claim_id)
    elif state != "examined":
        return
    decide(runtime, claim_id)


def examine(runtime: Runtime, comparer: Comparer, claim_id: uuid.UUID) -> None:
    """Compare, gather what is on record, and write both down. Raises Conflict `claim_not_now` for whoever is second."""
    with runtime.sessions() as session:
        steps.after(moving.newest(session, claim_id).state, "examine", "ledger")  # type: ignore[arg-type]
        asked = _asked(session, claim_id)
    data = runtime.storage.get(asked.image_key)
    image = runtime.files.decode(data).pixels
    found = fingerprint(data, image)
    # Only what anybody may see is drawn: an image on record, never one that was handed in.
    public = asked.about is not None
    evidence, copy, drawings = comparer.compare(image, found, _work(runtime, asked), draw=public)
    if asked.named is not None and not asked.named.work.grant_compare:
        copy = CopyFact(found=False, reason="the work may not be compared: that grant was not given")
    if copy is not None and evidence.copy is not None:
        copy = msgspec.structs.replace(copy, missed=evidence.copy.missed)
    with runtime.sessions.begin() as session:
        facts = _facts(session, runtime, asked, found, evidence, copy)
        document = {
            "schema": EXAMINED_SCHEMA,
            "claim_id": str(claim_id),
            "facts": msgspec.to_builtins(facts),
            "evidence": msgspec.to_builtins(evidence),
        }
        said = {"snapshot": facts.snapshot}
        step = moving.take(session, runtime, claim_id, "examine", "ledger", document=document, said=said)
        session.add_all(
            ClaimPicture(claim_id=claim_id, number=step.number, sha256=bytes.fromhex(name), png=png)
            for name, png in drawings.items()
        )


def decide(runtime: Runtime, claim_id: uuid.UUID) -> rules.Decision:
    """Apply the rules to the facts of the newest examination, and write the report that the entry commits to.

    Raises Conflict `claim_not_now` where somebody decided it meanwhile, or nobody examined it.
    """
    with runtime.sessions.begin() as session:
        moving.locked(session, claim_id)
        last = moving.newest(session, claim_id)
        examined = session.get(ClaimDocument, (claim_id, last.number))
        opened = session.get(ClaimDocument, (claim_id, 0))
        if last.state != "examined" or examined is None or opened is None:
            raise Conflict(
                f"decide: the claim is {last.state}",
                code="claim_not_now",
                next_step="see the claim's page for what was decided",
            )
        seen = msgspec.json.decode(examined.body)
        facts = msgspec.convert(seen["facts"], Facts)
        decision = rules.decide(facts)
        report = {
            "schema": REPORT_SCHEMA,
            "claim": msgspec.json.decode(opened.body),
            "decision": msgspec.to_builtins(decision),
            "facts": seen["facts"],
            "evidence": seen["evidence"],
            "rules": rules.published(),
            "log": {"origin": runtime.settings.origin, "examined": last.leaf_hash.hex()},
            "decided_at": runtime.clock().isoformat(),
            "not_proven": list(NOT_PROVEN),
        }
        said = {
            "outcome": decision.outcome,
            "claimant": decision.claimant,
            "rules": decision.rules,
            "grounds": [ground.code for ground in decision.grounds],
        }
        moving.take(session, runtime, claim_id, "decide", "ledger", document=report, said=said)
    return decision


def waiting(session: Session, now: dt.datetime, patience: dt.timedelta) -> list[uuid.UUID]:
    """Claims that have waited for the ledger longer than `patience` and have no job that waits or runs.

    Patience doubles with every job that failed: what can never be examined costs ever less, and nothing is given up.
    """
    last = moving.last_steps()
    waited = sa.extract("epoch", sa.literal(now) - last.c.created_at)
    doublings = sa.func.least(jobs.failures(Claim.id), MOST_DOUBLINGS)
    query = (
        sa.select(last.c.claim_id)
        .join(Claim, Claim.id == last.c.claim_id)
        .where(
            Claim.erased_at.is_(None),
            last.c.state.in_(WAITING),
            waited > patience.total_seconds() * sa.func.power(2, doublings),
            sa.text(
                "NOT EXISTS (SELECT 1 FROM procrastinate_jobs"
                " WHERE args->>'record_id' = claims.id::text AND status IN ('todo', 'doing'))"
            ),
        )
    )
    return list(session.scalars(query))


# ---- gathering -------------------------------------------------------------------------------------------------------


def _asked(session: Session, claim_id: uuid.UUID) -> _Asked:
    claim = session.get(Claim, claim_id)
    document = session.get(ClaimDocument, (claim_id, 0))
    if claim is None or document is None:
        raise moving.unknown(claim_id)
    key = claim.image_key
    if claim.about is not None:
        key = session.scalar(sa.select(Record.file_key).where(Record.id == claim.about, Record.listed))
    if key is None:
        raise NotFound(
            "the image claimed on was deleted", code="record_redacted", next_step="withdraw the claim: it has no object"
        )
    named = on_record.named_work(session, claim.work_id) if claim.work_id is not None else None
    return _Asked(opening_of(document.body), claim.identity_id, claim.about, key, claim.work_key, named)


def _work(runtime: Runtime, asked: _Asked) -> Pixels | str | None:
    """What the image is to be compared with beside the collection. None: a work that may not be, or none at all."""
    if asked.named is not None:
        return str(asked.named.work.id) if asked.named.work.grant_compare else None
    if asked.work_key is None:
        return None
    return runtime.files.decode(runtime.storage.get(asked.work_key)).pixels


def _facts(
    session: Session, runtime: Runtime, asked: _Asked, found: Fingerprints, evidence: Evidence, copy: CopyFact | None
) -> Facts:
    opening, named = asked.opening, asked.named
    pixels = bytes.fromhex(found.pixel_sha256)
    seen = on_record.sighting(session, pixels)
    work = on_record.work_fact(session, named, opening.claimant, None if seen is None else seen.at)
    same = on_record.works_of_picture(
        session,
        file_sha256=bytes.fromhex(found.file_sha256),
        pixel_sha256=pixels,
        background=runtime.settings.background,
    )
    others = on_record.others_identical(same, named, opening.claimant, pixels)
    others += _others_copied(session, evidence, named, opening.claimant, others)
    verified = named is not None and control.is_verified(session, asked.identity_id, named.work.artist_id)
    return Facts(
        kind=opening.kind,
        claimant="verified" if verified else "declared",
        made_on=opening.made_on,
        work=work,
        identical=_identical(found, named, opening),
        copy=copy,
        style=_style(evidence, named, work),
        sighting=seen,
        others=others,
        snapshot=evidence.snapshot.digest if evidence.snapshot is not None else None,
    )


def _identical(found: Fingerprints, named: NamedWork | None, opening: Opening) -> Literal["file", "pixels"] | None:
    if named is not None:
        file, pixels = named.work.file_sha256.hex(), named.work.pixel_sha256.hex()
    elif opening.work is not None:
        file, pixels = opening.work.file_sha256, opening.work.pixel_sha256
    else:
        return None
    if file == found.file_sha256:
        return "file"
    return "pixels" if pixels == found.pixel_sha256 else None


def _others_copied(
    session: Session, evidence: Evidence, named: NamedWork | None, claimant: str, known: list[OtherWork]
) -> list[OtherWork]:
    """Works on record, by name, under another artist, that the image shows as a whole; protected ones name nobody."""
    own = claimant if named is None else named.artist
    listed = {each.work_id for each in known}
    found = []
    for match in evidence.copy.matches if evidence.copy is not None else []:
        if match.protected or match.work_id is None or match.artist_id is None or match.work_id in listed:
            continue
        if match.p_value is None or match.p_value > ALPHA or covered(match.of_image) < WHOLE:
            continue
        artist = session.scalar(sa.select(Artist.name).where(Artist.id == uuid.UUID(match.artist_id)))
        if artist is not None and not on_record.same_name(artist, own):
            found.append(OtherWork(work_id=match.work_id, by="copy", p_value=match.p_value))
    return found


def _style(evidence: Evidence, named: NamedWork | None, work: WorkFact) -> StyleFact | None:
    """What the style axis says of the work's own artist, at the level that the axes asked share."""
    if named is None or not work.on_record:
        return StyleFact(stands=False, reason="the work is not on record, so no hand of its artist's is known here")
    axis = evidence.style
    finding = next((each for each in evidence.findings if each.axis == "style"), None)
    if axis is None or finding is None or finding.outcome == "cannot_tell":
        why = "no style was compared" if finding is None else finding.text.removeprefix("Cannot tell: ").rstrip(".")
        return StyleFact(stands=False, reason=why)
    if not named.work.grant_name:
        return StyleFact(stands=False, reason="the work is protected: protected artists are not told apart")
    p_value, share = _of_artist(axis, str(named.work.artist_id))
    asked = max(1, len(askable(axis_tests(evidence), ALPHA)))
    stands = finding.outcome == "found" and p_value is not None and p_value <= ALPHA / asked
    return StyleFact(stands=stands, p_value=p_value, share=share)


def _of_artist(axis: StyleAxis, artist_id: str) -> tuple[float | None, float | None]:
    found: dict[str | None, Any] = {each.artist_id: each for each in axis.artists}
    artist = found.get(artist_id)
    return (None, None) if artist is None else (artist.p_value, artist.share)
