"""Claims and works that may be compared and not named: whoever guesses an artist learns nothing from the answers."""

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ledger import grants
from ledger.artists import links
from ledger.claims import views
from ledger.database.tables.works import Work
from ledger.runtime import Runtime

from .claiming import FOUND, JANE, NOTHING, Answers, claim_entries, claimed, settled, somebody, works_of
from .http_ledger import png, stamped

pytestmark = pytest.mark.postgres


def test_a_protected_work_is_compared_and_neither_the_report_nor_the_log_names_it(
    runtime: Runtime, tmp_path: Path
) -> None:
    (work,) = works_of(runtime, tmp_path)
    grants.change_grants(runtime, [work], {"name": False}, by_role="artist")
    record, jane = stamped(runtime, png(50)), somebody(runtime)
    with runtime.sessions.begin() as session:
        links.link(session, runtime, session.get_one(Work, work).artist_id, jane)
    claim_id = claimed(runtime, jane, about=record, work_id=work)
    found = settled(runtime, claim_id)
    assert found.decision is not None
    assert found.decision.outcome == "supported"
    with runtime.sessions() as session:
        report = views.report(session, claim_id).decode()
    for text in (report, json.dumps(claim_entries(runtime))):
        assert str(work) not in text
    assert (found.work, found.work_id) == (None, None)


GUESSES = (JANE, "Somebody Else")


def answers_to_guesses(runtime: Runtime, tmp_path: Path, kind: str) -> Iterator[tuple[str, str]]:
    """(view, report) of the claims of a stranger under the right name and under a wrong one, on the picture of a
    protected work: handing that in, and naming a work of a third artist. What differs by itself is left out."""
    (other,) = works_of(runtime, tmp_path / "rosa", artist="Rosa", seeds=(90,))
    record = stamped(runtime, png(50))
    for named in ({"work": png(50)}, {"work": png(91)}, {"work_id": other}):
        for guess in GUESSES:
            who = f"{uuid.uuid4()}@example.org"
            claim_id = claimed(runtime, somebody(runtime, who), about=record, kind=kind, claimant=guess, **named)
            view = settled(runtime, claim_id, Answers(copy=FOUND if "work" in named else NOTHING))
            with runtime.sessions() as session:
                report = views.report(session, claim_id).decode()
            yield tuple(masked(text, guess) for text in (msgspec.json.encode(view).decode(), report))


def masked(text: str, name: str) -> str:
    """Without names, ids, times, hashes of entries and their places in the log."""
    for pattern in (
        r"[0-9a-f]{8}-[0-9a-f-]{27}",
        r'"(leaf_hash|examined)": ?"[0-9a-f]+"',
        r"20\d\d-\d\d-\d\dT[0-9:.+]+",
        r'"index":(null|\d+)',
    ):
        text = re.sub(pattern, "…", text)
    return text.replace(name, "…")


@pytest.mark.parametrize("kind", ["mine", "copies", "style", "unconsented"])
def test_no_answer_to_a_claim_tells_whose_a_protected_work_is(runtime: Runtime, tmp_path: Path, kind: str) -> None:
    (work,) = works_of(runtime, tmp_path)
    grants.change_grants(runtime, [work], {"name": False}, by_role="artist")
    said = list(answers_to_guesses(runtime, tmp_path, kind))
    assert said[::2] == said[1::2]


def test_a_protected_work_that_is_handed_in_reads_like_one_that_is_not_on_record(
    runtime: Runtime, tmp_path: Path
) -> None:
    """The same claim before the work was put on record and after: but for the search, nothing tells."""
    record, said = stamped(runtime, png(60)), []
    for number in range(2):
        claim_id = claimed(runtime, somebody(runtime, f"{number}@example.org"), about=record, work=png(50))
        view = settled(runtime, claim_id, Answers(copy=FOUND))
        with runtime.sessions() as session:
            report = views.report(session, claim_id).decode()
        said.append((masked(msgspec.json.encode(view).decode(), JANE), masked(report, JANE)))
        if number == 0:
            grants.change_grants(runtime, works_of(runtime, tmp_path), {"name": False}, by_role="artist")
    assert said[0] == said[1]
