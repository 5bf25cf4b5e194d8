"""What may be named now: evidence is fixed when a record is made, and *name* may be withdrawn after that.

A work without *name* is shown as a work that never had it: no id, no artist, no title, no picture, and no sentence that
holds any of them. The report itself stays as it was signed; whoever may not be in it any more asks for its erasure.
"""

import uuid
from collections.abc import Collection, Iterable, Iterator
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from attribution.evidence import (
    PROTECTED_WORK,
    PROTECTED_WORKS,
    ArtistFinding,
    Conflict,
    CopyMatch,
    Evidence,
    Finding,
    Gate,
    Match,
    Neighbour,
)
from attribution.wording import statement
from ledger.database.tables.works import Artist, Work

OfWork = TypeVar("OfWork", Match, Neighbour, CopyMatch)
_UNTOLD = {
    "found": "It stands closest to a protected work, or to a hand that may not be named.",
    "gate": "It holds a protected work, or a part of one.",
    "nothing": "Nothing stands out.",
    "cannot_tell": "Cannot tell, and what comes nearest may not be named.",
}


def nameable(session: Session, evidence: Evidence) -> Evidence:
    """`evidence` as it may be shown now."""
    works, artists = _unnamed(
        session,
        works={each.work_id for each in _works(evidence)},
        artists={each.artist_id for each in (*_works(evidence), *_artists(evidence))},
    )
    if not works and not artists:
        return evidence
    words = {word for each in _works(evidence) if each.work_id in works for word in (each.title, each.artist) if word}
    words |= {each.artist for each in _artists(evidence) if each.artist_id in artists}
    findings = [_retold(each, words) for each in evidence.findings]
    shown = msgspec.structs.replace(
        evidence,
        identity=msgspec.structs.replace(evidence.identity, works=_masked(evidence.identity.works, works)),
        neighbours={
            name: msgspec.structs.replace(axis, nearest=_masked(axis.nearest, works))
            for name, axis in evidence.neighbours.items()
        },
        copy=evidence.copy and msgspec.structs.replace(evidence.copy, matches=_masked(evidence.copy.matches, works)),
        style=evidence.style
        and msgspec.structs.replace(evidence.style, artists=_silenced(evidence.style.artists, artists)),
        classification=evidence.classification
        and msgspec.structs.replace(
            evidence.classification, artists=_silenced(evidence.classification.artists, artists)
        ),
        conflicts=[each for each in evidence.conflicts if not _in_conflict(each, words)],
        findings=findings,
        gate=_gate(evidence.gate, words),
    )
    if not _says(evidence.statement, words):
        return shown
    axes = {each.axis for each in findings}
    retold = statement(shown, findings) if {"identity", "copy", "style", "content"} <= axes else _UNTOLD["found"]
    return msgspec.structs.replace(shown, statement=retold)


def names_withdrawn(session: Session, text: str) -> bool:
    """Whether `text`, a sentence of ours that was kept without ids, holds title and artist of a work that may not be
    named now. It walks those works: ask where little depends on the time."""
    holds = sa.and_(sa.func.strpos(text, Work.title) > 0, sa.func.strpos(text, Artist.name) > 0)
    found = sa.exists().where(Artist.id == Work.artist_id, ~Work.grant_name, holds)
    return bool(session.scalar(sa.select(found)))


def may_be_named(session: Session, work_id: str) -> bool:
    """Whether this work, which evidence named once, may be named now."""
    works, _ = _unnamed(session, works=[work_id])
    return work_id not in works


def withdrawn_pictures(session: Session, evidence: Evidence) -> set[str]:
    """Drawings (SHA-256, hex) that show a work which may no longer be named."""
    drawn = [each for each in (evidence.copy.matches if evidence.copy else []) if each.picture and not each.protected]
    works, _ = _unnamed(session, works={each.work_id for each in drawn})
    return {str(each.picture) for each in drawn if each.work_id in works}


def _works(evidence: Evidence) -> Iterator[Match | Neighbour | CopyMatch]:
    yield from evidence.identity.works
    yield from evidence.copy.matches if evidence.copy else ()
    for axis in evidence.neighbours.values():
        yield from axis.nearest


def _artists(evidence: Evidence) -> Iterator[ArtistFinding]:
    yield from evidence.style.artists if evidence.style else ()
    yield from evidence.classification.artists if evidence.classification else ()


def _unnamed(
    session: Session, *, works: Iterable[str | None], artists: Iterable[str | None] = ()
) -> tuple[set[str], set[str]]:
    """Those of these works that may not be named now, and those of these artists of whom no work may be."""
    withdrawn = sa.select(Work.id, sa.literal("work")).where(Work.id.in_(_ids(works)), ~Work.grant_name)
    silent = (
        sa.select(Work.artist_id, sa.literal("artist"))
        .where(Work.artist_id.in_(_ids(artists)))
        .group_by(Work.artist_id)
        .having(~sa.func.bool_or(Work.grant_name))
    )
    found: dict[str, set[str]] = {"work": set(), "artist": set()}
    for each, kind in session.execute(sa.union_all(withdrawn, silent)):
        found[kind].add(str(each))
    return found["work"], found["artist"]


def _ids(named: Iterable[str | None]) -> list[uuid.UUID]:
    found = []
    for each in named:
        try:
            found.append(uuid.UUID(str(each)))
        except ValueError:
            continue  # protected, or of a collection that is not kept here
    return found


def _masked(works: list[OfWork], withdrawn: Collection[str]) -> list[OfWork]:
    return [_protected(each) if each.work_id in withdrawn else each for each in works]


def _protected(work: OfWork) -> OfWork:
    changes = {"work_id": None, "artist_id": None, "artist": None, "title": PROTECTED_WORK, "protected": True}
    if isinstance(work, CopyMatch):
        changes["picture"] = None  # it shows the work
    return msgspec.structs.replace(work, **changes)


def _silenced(artists: list[ArtistFinding], silent: Collection[str]) -> list[ArtistFinding]:
    return [
        msgspec.structs.replace(each, artist_id=None, artist=PROTECTED_WORKS, protected=True)
        if each.artist_id in silent
        else each
        for each in artists
    ]


def _retold(said: Finding, words: set[str]) -> Finding:
    if not _says(said.text, words):
        return said
    return msgspec.structs.replace(said, text=_UNTOLD[said.outcome])


def _gate(gate: Gate | None, words: set[str]) -> Gate | None:
    return gate if gate is None or not _says(gate.text, words) else msgspec.structs.replace(gate, text=_UNTOLD["gate"])


def _in_conflict(conflict: Conflict, words: set[str]) -> bool:
    return not words.isdisjoint([*conflict.titles, *conflict.artists])


def _says(text: str, words: set[str]) -> bool:
    """Rather once too often: a title may be a common word, and a sentence less is no harm."""
    return any(word in text for word in words)
