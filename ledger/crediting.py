"""Which records credit which works and artists: what their evidence *found*, kept so that an artist can ask.

A credit is a finding of similarity whose error rate stands (`attribution.levels`): identity, copy, style or content. It
is no statement that a generator learned from the work, nor that the image owes it anything. Works that could not be
named when the record was made have no ids in its evidence, and so no credits here.
"""

import uuid
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from attribution.evidence import Evidence
from attribution.levels import askable, axis_tests, content_axes
from attribution.wording import ALPHA
from ledger.database.tables.records import Credit
from ledger.database.tables.works import Artist, Work


class Credited(NamedTuple):
    """What a finding rests on. `work_id` is None on the axis of style, which speaks of a hand."""

    axis: str
    artist_id: uuid.UUID
    work_id: uuid.UUID | None
    p_value: float | None


def credited(evidence: Evidence) -> list[Credited]:
    """What `evidence` credits: what the findings rest on of each axis that found something, a work once an axis."""
    found = {each.axis for each in evidence.findings if each.outcome == "found"}
    asked = askable(axis_tests(evidence), ALPHA)
    level = ALPHA / max(1, len(asked))
    said: list[tuple[str, str | None, str | None, float | None]] = []
    if "identity" in found:
        said += [("identity", each.artist_id, each.work_id, None) for each in evidence.identity.works]
    if "copy" in found and evidence.copy is not None:
        for number, match in enumerate(evidence.copy.matches):
            if number == 0 or (match.p_value is not None and match.p_value <= level):
                said.append(("copy", match.artist_id, match.work_id, match.p_value))
    if "style" in found and evidence.style is not None:
        hands = [each for each in evidence.style.artists if each.p_value is not None]
        best = min(hands, key=lambda each: (each.p_value or 0.0, -each.share))
        said.append(("style", best.artist_id, None, best.p_value))
    if "content" in found:
        near = [axis.nearest[0] for axis in content_axes(evidence).values() if axis.nearest]
        closest = min((each for each in near if each.p_value is not None), key=lambda each: each.p_value or 0.0)
        said.append(("content", closest.artist_id, closest.work_id, closest.p_value))
    once: dict[tuple[str, str | None, str | None], Credited] = {}
    for axis, artist, work, p_value in said:
        artist_id, work_id = _id(artist), _id(work)
        if artist_id is not None and (work_id is not None or axis == "style"):
            once.setdefault((axis, artist, work), Credited(axis, artist_id, work_id, p_value))
    return list(once.values())


def keep(session: Session, record_id: uuid.UUID, evidence: Evidence) -> None:
    """Store what the evidence of `record_id` credits, in the transaction that signs it. Ids that are not of this
    ledger's collections credit nobody."""
    wanted = credited(evidence)
    if not wanted:
        return
    artists = set(session.scalars(sa.select(Artist.id).where(Artist.id.in_([each.artist_id for each in wanted]))))
    named = [each.work_id for each in wanted if each.work_id is not None]
    works = set(session.scalars(sa.select(Work.id).where(Work.id.in_(named))))
    session.add_all(
        Credit(id=uuid7(), record_id=record_id, **each._asdict())
        for each in wanted
        if each.artist_id in artists and (each.work_id is None or each.work_id in works)
    )


def _id(text: str | None) -> uuid.UUID | None:
    try:
        return None if text is None else uuid.UUID(text)
    except ValueError:
        return None
