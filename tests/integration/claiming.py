"""Claims in a founded ledger: works on record, people who are signed in, and an engine whose answer is given."""

import datetime as dt
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from attribution.evidence import Evidence, SnapshotRef
from attribution.fingerprints import Fingerprints
from ledger.claims import deciding, identities, opening, views
from ledger.claims.examined import Compared
from ledger.claims.facts import CopyFact
from ledger.claims.opening import Wish
from ledger.database.tables.log import LogEntry, LogOutbox
from ledger.database.tables.works import Artist, Work
from ledger.log.statements import parse_statement
from ledger.runtime import Runtime
from models.images import encode_png

from .conftest import picture
from .http_ledger import told
from .test_catalog import run

JANE = "Jane Doe"
PLAIN = told(Evidence(statement="", snapshot=SnapshotRef(digest="ab" * 32, works=2, artists=2, collection="test")))
FOUND = CopyFact(
    found=True, p_value=0.0005, smallest_p=0.0005, n=1999, of_image=0.95, of_work=0.9, details=180, mirrored=False
)
NOTHING = CopyFact(found=False, p_value=1.0, smallest_p=0.0005, n=1999)


@dataclass
class Answers:
    """A comparer that answers what it was given: rules and records are what these tests are about."""

    copy: CopyFact = NOTHING
    said: Evidence = PLAIN
    drawings: dict[str, bytes] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)

    def compare(
        self, image: NDArray[np.uint8], fingerprints: Fingerprints, work: NDArray[np.uint8] | str | None, *, draw: bool
    ) -> Compared:
        if work is None:
            return Compared(self.said, None, self.drawings if draw else {})
        self.asked.append(work)
        return Compared(self.said, self.copy, self.drawings if draw else {})


def works_of(runtime: Runtime, folder: Path, artist: str = JANE, seeds: tuple[int, ...] = (50,)) -> list[uuid.UUID]:
    """Works on record: `picture(seed)` by `artist`."""
    (folder / "works" / artist).mkdir(parents=True)
    for seed in seeds:
        (folder / "works" / artist / f"{seed}.png").write_bytes(encode_png(picture(seed)))
    run(runtime, folder / "works", name=f"works of {artist}")
    with runtime.sessions() as session:
        rows = session.execute(
            sa.select(Work.source, Work.id).join(Artist, Artist.id == Work.artist_id).where(Artist.name == artist)
        )
        found = {row.source.rpartition("/")[2]: row.id for row in rows}
    return [found[f"{seed}.png"] for seed in seeds]


def somebody(runtime: Runtime, email: str = "jane@example.org") -> uuid.UUID:
    """Who has opened a link sent to this address."""
    now = runtime.clock()
    with runtime.sessions.begin() as session:
        cookie = identities.sign_in(session, identities.new_link(session, email, now), now)
        found = identities.identity_of(session, cookie, now)
    assert found is not None
    return found


def claimed(runtime: Runtime, identity_id: uuid.UUID | None = None, **wish: Any) -> uuid.UUID:
    given = {"kind": "mine", "claimant": JANE} | wish
    return opening.open_claim(runtime, Wish(**given), identity_id=identity_id)


def settled(runtime: Runtime, claim_id: uuid.UUID, comparer: Answers | None = None) -> views.ClaimView:
    deciding.settle(runtime, comparer or Answers(), claim_id)
    return seen(runtime, claim_id)


def seen(runtime: Runtime, claim_id: uuid.UUID) -> views.ClaimView:
    with runtime.sessions() as session:
        return views.view(session, runtime, claim_id)


def codes(view: views.ClaimView) -> set[str]:
    assert view.decision is not None
    return {ground.code for ground in view.decision.grounds}


def claim_entries(runtime: Runtime) -> list[dict[str, Any]]:
    """What the log holds of claims, or soon will."""
    with runtime.sessions() as session:
        entries = session.scalars(sa.union(sa.select(LogEntry.entry), sa.select(LogOutbox.entry)))
        payloads = [parse_statement(entry).payload for entry in entries]
    found = [each for each in payloads if str(each["type"]).startswith("lawful-ledger/claim-")]
    return sorted(found, key=lambda each: str(each["created_at"]))


def yesterday(runtime: Runtime) -> dt.date:
    return (runtime.clock() - dt.timedelta(days=1)).date()
