"""Claims from opening to close: decided by what is on record, each step once, each an entry; and who tries to cheat."""

import base64
import dataclasses
import datetime as dt
import hashlib
import json
import threading
import uuid
from pathlib import Path

import psycopg
import pytest
import rfc8785
import sqlalchemy as sa
from psycopg import errors

from ledger import erasure, grants, lookup
from ledger.artists import links
from ledger.claims import deciding, erasing, moving, opening, replies, views
from ledger.claims.opening import Wish
from ledger.database.tables.claims import Claim, ClaimDocument, ClaimStep
from ledger.database.tables.records import Record
from ledger.database.tables.works import Work
from ledger.errors import BadRequest, Conflict, LedgerError, NotAllowed, NotFound, Unavailable
from ledger.log import entries
from ledger.log.statement_types import sign_entry
from ledger.log.statements import commitment, parse_statement, verify_statement
from ledger.log.verify import check_tlog_proof
from ledger.runtime import Runtime
from ledger.sweep import sweep
from models.errors import ImageError
from tests.waiting import until

from .claiming import FOUND, JANE, Answers, claim_entries, claimed, codes, seen, settled, somebody, works_of
from .http_ledger import generated, operator, png, stamped

pytestmark = pytest.mark.postgres

A_MINUTE = dt.timedelta(minutes=1)


# ---- decisions -------------------------------------------------------------------------------------------------------


def test_a_true_claim_is_upheld_step_by_step_in_the_log(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path)
    record = stamped(runtime, png(50))
    claim_id = claimed(runtime, somebody(runtime), about=record, work_id=work)
    found = settled(runtime, claim_id)
    assert found.state == "decided"
    assert found.decision is not None
    assert (found.decision.outcome, found.decision.claimant) == ("supported", "declared")
    assert {"identical", "first_is_not_author", "claimant"} <= codes(found)
    logged = claim_entries(runtime)
    assert [each["type"].rsplit("-", 1)[1] for each in logged] == ["opened/1", "examined/1", "decided/1"]
    assert logged[2]["outcome"] == "supported"
    leaves = [step.leaf_hash for step in found.steps]
    assert [each.get("previous") for each in logged] == [None, *leaves[:2]]


def test_a_false_claim_on_somebody_elses_work_is_refuted(runtime: Runtime, tmp_path: Path) -> None:
    works_of(runtime, tmp_path, artist="Rosa Original")
    record = stamped(runtime, png(50))
    thief = somebody(runtime, "thief@example.org")
    found = settled(runtime, claimed(runtime, thief, about=record, work=png(50), claimant="A. Thief"))
    assert found.decision is not None
    assert found.decision.outcome == "contradicted"
    assert "work_is_anothers" in codes(found)


def test_a_false_claim_on_a_generation_is_refuted(runtime: Runtime) -> None:
    record = generated(runtime, seed=4)
    with runtime.sessions() as session:
        file = runtime.storage.get(session.get_one(Record, record).file_key or "")
    found = settled(runtime, claimed(runtime, somebody(runtime), about=record, work=file))
    assert found.decision is not None
    assert found.decision.outcome == "contradicted"
    assert "made_here" in codes(found)


def test_who_stamps_an_artists_work_first_and_then_claims_it_gets_nothing(runtime: Runtime, tmp_path: Path) -> None:
    """Against the artist whose work is on record the claim is refuted; where nobody is, it stays open."""
    record = stamped(runtime, png(50))  # the thief was first
    thief = somebody(runtime, "thief@example.org")
    early = dt.date(1999, 1, 1)
    first = settled(runtime, claimed(runtime, thief, about=record, work=png(50), claimant="A. Thief", made_on=early))
    assert first.decision is not None
    assert first.decision.outcome == "inconclusive"
    assert {"work_off_record", "first_is_not_author"} <= codes(first)
    (work,) = works_of(runtime, tmp_path)  # then the artist's work comes on record
    for named in ({"work": png(50)}, {"work_id": work}):
        other = somebody(runtime, f"thief{len(named)}-{next(iter(named))}@example.org")
        again = settled(runtime, claimed(runtime, other, about=record, claimant="A. Thief", made_on=early, **named))
        assert again.decision is not None
        assert again.decision.outcome == "contradicted"
    artist = settled(runtime, claimed(runtime, somebody(runtime), about=record, work_id=work))
    assert artist.decision is not None
    assert artist.decision.outcome == "supported"


def test_a_work_made_after_the_image_was_on_record_refutes_the_claim(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path, seeds=(51,))
    record = stamped(runtime, png(50))
    with runtime.sessions.begin() as session:  # the record is ten days old
        row = session.get_one(Record, record)
        payload = parse_statement(row.statement or b"").payload
        old = payload | {"created_at": (runtime.clock() - dt.timedelta(days=10)).isoformat()}
        row.statement = sign_entry(old, runtime.keys.statements, issuer=runtime.settings.origin)
    made_on = runtime.clock().date() - dt.timedelta(days=2)
    found = settled(
        runtime, claimed(runtime, somebody(runtime), about=record, work_id=work, kind="copies", made_on=made_on),
        Answers(copy=FOUND),
    )  # fmt: skip
    assert found.decision is not None
    assert found.decision.outcome == "contradicted"
    assert "later_date" in codes(found)


@pytest.mark.parametrize("kind", ["mine", "copies", "style"])
def test_that_nothing_was_found_contradicts_nobody(runtime: Runtime, tmp_path: Path, kind: str) -> None:
    (work,) = works_of(runtime, tmp_path)
    record = stamped(runtime, png(60))
    found = settled(runtime, claimed(runtime, somebody(runtime), about=record, work_id=work, kind=kind))
    assert found.decision is not None
    assert found.decision.outcome == "inconclusive"
    assert "no_match" in codes(found)


def test_the_grant_that_counts_is_the_one_in_force_when_the_image_was_seen(runtime: Runtime, tmp_path: Path) -> None:
    """It was given (as enrolled), the image was made, then it was withdrawn: the use was allowed when it happened."""
    (work,) = works_of(runtime, tmp_path)
    before = stamped(runtime, png(60))
    grants.change_grants(runtime, [work], {"train": False}, by_role="artist")
    after = stamped(runtime, png(61))
    outcomes = []
    for record in (before, after):
        with runtime.sessions.begin() as session:
            session.execute(sa.update(Work).values(licence="all rights reserved"))
        claim_id = claimed(runtime, somebody(runtime), about=record, work_id=work, kind="unconsented")
        found = settled(runtime, claim_id, Answers(copy=FOUND))
        assert found.decision is not None
        outcomes.append(found.decision.outcome)
    assert outcomes == ["contradicted", "supported"]


def test_a_work_that_may_not_be_compared_is_not(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path)
    grants.change_grants(runtime, [work], {"compare": False}, by_role="artist")
    comparer = Answers(copy=FOUND)
    claim_id = claimed(runtime, somebody(runtime), about=stamped(runtime, png(60)), work_id=work, kind="copies")
    found = settled(runtime, claim_id, comparer)
    assert comparer.asked == []
    assert "cannot_tell" in codes(found)


# ---- the report ------------------------------------------------------------------------------------------------------


def test_the_report_is_signed_by_the_decisions_entry_and_proved_in_the_log(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path)
    claim_id = claimed(runtime, somebody(runtime), about=stamped(runtime, png(50)), work_id=work)
    settled(runtime, claim_id)
    with runtime.sessions() as session:
        leaf = moving.newest(session, claim_id).leaf_hash
    entries.wait(runtime.sessions, runtime.shard, leaf, 10)
    with runtime.sessions() as session:
        signed = json.loads(json.dumps(views.signed_report(session, runtime, claim_id)))
    statement = verify_statement(base64.b64decode(signed["statement"]), runtime.keys.statements.public_key)
    digest = hashlib.sha256(rfc8785.dumps(signed["report"])).digest()
    opened = commitment(moving.DOCUMENT_DOMAIN, bytes.fromhex(signed["salt"]), digest).hex()
    assert statement.payload["commitments"]["document"] == opened
    checked = check_tlog_proof(statement.raw, signed["tlog_proof"].encode(), log_vkeys=[runtime.keys.log.vkey])
    assert (checked.inclusion, checked.log_key) == (True, "trusted")
    assert signed["report"]["decision"]["outcome"] == statement.payload["outcome"]
    assert [rule["number"] for rule in signed["report"]["rules"]] == list(range(1, 18))


# ---- one step at a time ----------------------------------------------------------------------------------------------


def test_of_two_decisions_at_once_one_is_taken(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path)
    claim_id = claimed(runtime, somebody(runtime), about=stamped(runtime, png(50)), work_id=work)
    deciding.examine(runtime, Answers(), claim_id)
    gate, outcomes = threading.Barrier(4), list[str]()

    def decide() -> None:
        gate.wait()
        try:
            outcomes.append(deciding.decide(runtime, claim_id).outcome)
        except Conflict as conflict:
            outcomes.append(conflict.code)

    threads = [threading.Thread(target=decide) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["claim_not_now"] * 3 + ["supported"]
    assert [each["type"] for each in claim_entries(runtime)].count("lawful-ledger/claim-decided/1") == 1


def test_the_database_itself_refuses_a_step_that_the_table_does_not_know(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path)
    claim_id = claimed(runtime, somebody(runtime), about=stamped(runtime, png(50)), work_id=work)
    deciding.examine(runtime, Answers(), claim_id)

    def insert(number: int, previous: int, before: str, event: str, state: str, role: str) -> None:
        with runtime.database.connect() as connection:
            connection.execute(
                "INSERT INTO claim_steps VALUES (%s, %s, %s, %s, %s, %s, %s, %s, now())",
                [claim_id, number, previous, before, event, state, role, bytes(32)],
            )

    with pytest.raises(errors.CheckViolation):  # decided by the operator, not by the rules
        insert(2, 1, "examined", "decide", "decided", "operator")
    with pytest.raises(errors.CheckViolation):  # closed before it was decided
        insert(2, 1, "examined", "close", "closed", "operator")
    with pytest.raises(errors.CheckViolation):  # a step that skips one
        insert(3, 1, "examined", "decide", "decided", "ledger")
    with pytest.raises(errors.ForeignKeyViolation):  # after a state in which the claim is not
        insert(2, 1, "decided", "answer", "answered", "operator")
    with pytest.raises(errors.UniqueViolation):  # a second step in the place of the first
        insert(1, 0, "opened", "examine", "examined", "ledger")


def test_a_step_is_never_changed_nor_deleted_by_the_service(runtime: Runtime) -> None:
    for statement in ("UPDATE claim_steps SET state = 'closed'", "DELETE FROM claim_steps"):
        with runtime.database.connect() as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute(psycopg.sql.SQL(statement))  # type: ignore[arg-type]


def test_an_interrupted_decision_goes_on_from_the_examination(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path)
    claim_id = claimed(runtime, somebody(runtime), about=stamped(runtime, png(50)), work_id=work)
    comparer = Answers()
    deciding.examine(runtime, comparer, claim_id)
    with runtime.sessions() as session:
        later = runtime.clock() + dt.timedelta(minutes=5)
        assert deciding.waiting(session, later, A_MINUTE) == []  # its job still is to come
    with runtime.sessions.begin() as session:
        session.execute(sa.text("DELETE FROM procrastinate_jobs"))
        assert deciding.waiting(session, later, A_MINUTE) == [claim_id]
    assert settled(runtime, claim_id, comparer).state == "decided"
    assert len(comparer.asked) == 1
    settled(runtime, claim_id, comparer)  # again: nothing is left to do
    assert len(seen(runtime, claim_id).steps) == 3


# ---- the other side, appeal, withdrawal, close -----------------------------------------------------------------------


def test_the_other_side_answers_and_the_claimant_appeals_once(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path)
    claim_id = claimed(runtime, somebody(runtime), about=stamped(runtime, png(50)), work_id=work)
    settled(runtime, claim_id)
    with runtime.sessions.begin() as session:
        role = replies.role_of_principal(session, claim_id, operator(runtime))
        replies.answer(session, runtime, claim_id, role, "I bought a licence.")
    with runtime.sessions.begin() as session:
        replies.appeal(session, runtime, claim_id, "claimant", "Look again, please.")
    assert settled(runtime, claim_id).state == "decided"
    with runtime.sessions.begin() as session, pytest.raises(Conflict) as refused:
        replies.appeal(session, runtime, claim_id, "claimant", "And again.")
    assert refused.value.code == "claim_appealed_already"
    found = seen(runtime, claim_id)
    assert [step.event for step in found.steps] == [
        "open", "examine", "decide", "answer", "appeal", "examine", "decide"
    ]  # fmt: skip
    assert [step.words for step in found.steps if step.words] == ["I bought a licence.", "Look again, please."]
    with runtime.sessions.begin() as session:
        replies.close(session, runtime, claim_id, "operator")
    assert seen(runtime, claim_id).next_events == []


def test_a_claimant_withdraws_and_nothing_more_happens(runtime: Runtime) -> None:
    jane = somebody(runtime)
    claim_id = claimed(runtime, jane, image=png(80), work=png(81))
    with runtime.sessions.begin() as session:
        replies.require_claimant(session, claim_id, jane)
        keys = replies.withdraw(session, runtime, claim_id)
    replies.forget_files(runtime, keys)
    assert len(keys) == 2
    assert settled(runtime, claim_id).state == "withdrawn"
    with pytest.raises(Conflict):
        deciding.examine(runtime, Answers(), claim_id)


def test_nobody_moves_anothers_claim(runtime: Runtime) -> None:
    claim_id = claimed(runtime, somebody(runtime), about=stamped(runtime, png(50)), work=png(51))
    with runtime.sessions() as session:
        with pytest.raises(NotAllowed):
            replies.require_claimant(session, claim_id, somebody(runtime, "other@example.org"))
        with pytest.raises(NotAllowed):
            replies.role_of_principal(session, claim_id, uuid.uuid4())


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_a_claim_on_a_record_that_does_not_exist_leaves_nothing(runtime: Runtime, tmp_path: Path) -> None:
    record = stamped(runtime, png(50))
    jane = somebody(runtime)
    for about in (uuid.uuid4(), jane):
        with pytest.raises(NotFound) as refused:
            claimed(runtime, jane, about=about, work=png(51))
        assert refused.value.code == "record_unknown"
    erasure.erase(runtime, record, reason="requested", asked_by="submitter")
    with pytest.raises(NotFound):
        claimed(runtime, jane, about=record, work=png(51))
    with pytest.raises(NotFound) as unknown:
        claimed(runtime, jane, about=stamped(runtime, png(52)), work_id=uuid.uuid4())
    assert unknown.value.code == "work_unknown"
    assert claim_entries(runtime) == []


@pytest.mark.parametrize(
    "wish",
    [
        {"claimant": ""},
        {"claimant": "a\nb"},
        {"claimant": "x" * 201},
        {"words": "\x00"},
        {"words": "\ud800"},
        {"words": "x" * 4001},
        {"kind": "theft"},
        {"made_on": dt.date(2999, 1, 1)},
        {"image": b"x"},
        {"work": None},
        {"work_id": uuid.UUID(int=0)},
    ],
    ids=lambda wish: f"{next(iter(wish))}-{len(str(next(iter(wish.values()))))}",
)
def test_what_is_no_claim_is_refused_before_anything_is_looked_at(wish: dict[str, object]) -> None:
    given = {"kind": "mine", "claimant": JANE, "about": uuid.UUID(int=1), "work": b"x"} | wish
    with pytest.raises(BadRequest) as refused:
        opening.check(Wish(**given), dt.date(2026, 1, 1))  # type: ignore[arg-type]
    assert refused.value.code == "claim_malformed"


def test_a_file_that_is_no_image_is_refused(runtime: Runtime) -> None:
    with pytest.raises(ImageError):
        claimed(runtime, somebody(runtime), image=png(1), work=b"<svg/>")
    assert claim_entries(runtime) == []


def test_claims_by_script_end_at_the_limit_also_when_many_are_sent_at_once(runtime: Runtime) -> None:
    strict = dataclasses.replace(runtime, settings=runtime.settings.model_copy(update={"claims_per_day": 3}))
    jane, record = somebody(runtime), stamped(runtime, png(50))
    outcomes: list[str] = []

    def claim(number: int) -> None:
        try:
            claimed(strict, jane, about=record, work=png(100 + number), kind=("mine", "copies")[number % 2])
            outcomes.append("opened")
        except LedgerError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("opened") <= 3
    assert set(outcomes) <= {"opened", "claims_too_many", "claim_exists"}
    for number in range(outcomes.count("opened"), 3):
        claimed(strict, jane, image=png(200 + number), work=png(50))
    with pytest.raises(LedgerError) as refused:
        claimed(strict, jane, image=png(210), work=png(50))
    assert (refused.value.code, refused.value.status) == ("claims_too_many", 429)
    claimed(strict, somebody(runtime, "other@example.org"), about=record, work=png(51))


def test_many_addresses_of_mail_flood_no_record_and_keep_no_artist_out(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path)
    strict = dataclasses.replace(runtime, settings=runtime.settings.model_copy(update={"claims_per_record": 3}))
    record, other = stamped(runtime, png(60)), stamped(runtime, png(61))
    people = [somebody(runtime, f"{number}@example.org") for number in range(6)]
    outcomes: list[str] = []
    gate = threading.Barrier(len(people))

    def claim(who: uuid.UUID) -> None:
        gate.wait()
        try:
            claimed(strict, who, about=record, work_id=work, kind="copies")
            outcomes.append("opened")
        except LedgerError as error:
            outcomes.append(f"{error.code} {error.status}")

    threads = [threading.Thread(target=claim, args=(who,)) for who in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["opened"] * 3 + ["record_claims_too_many 429"] * 3
    claimed(strict, people[0], about=other, work_id=work, kind="copies")  # another record is not full
    jane = somebody(runtime)
    with pytest.raises(LedgerError):
        claimed(strict, jane, about=record, work_id=work, kind="copies")
    with runtime.sessions.begin() as session:
        links.link(session, runtime, session.get_one(Work, work).artist_id, jane)
    claimed(strict, jane, about=record, work_id=work, kind="copies")
    claimed(strict, None, about=record, work_id=work, kind="copies")  # the operator


def test_the_same_claim_twice_is_one(runtime: Runtime) -> None:
    jane, record = somebody(runtime), stamped(runtime, png(50))
    first = claimed(runtime, jane, about=record, work=png(51))
    with pytest.raises(Conflict) as refused:
        claimed(runtime, jane, about=record, work=png(51))
    assert str(first) in refused.value.detail


# ---- forgetting ------------------------------------------------------------------------------------------------------


def test_no_entry_of_a_claim_holds_a_name_a_word_or_an_unsalted_digest(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path)
    claim_id = claimed(
        runtime, somebody(runtime), about=stamped(runtime, png(50)), work_id=work, words="my garden at dusk"
    )
    settled(runtime, claim_id)
    with runtime.sessions.begin() as session:
        replies.answer(session, runtime, claim_id, "operator", "the garden is ours")
        documents = session.scalars(sa.select(ClaimDocument.body)).all()
        salt = session.get_one(Claim, claim_id).salt
    text = json.dumps(claim_entries(runtime))
    assert len(documents) == 4
    for word in (JANE, "Jane", "garden", "jane@example.org", salt.hex() if salt else ""):
        assert word not in text
    for body in documents:
        assert hashlib.sha256(body).hexdigest() not in text


@pytest.mark.parametrize("by", ["claim", "record"])
def test_an_erased_claim_keeps_its_steps_and_nothing_else(runtime: Runtime, tmp_path: Path, by: str) -> None:
    (work,) = works_of(runtime, tmp_path)
    record = stamped(runtime, png(50))
    claim_id = claimed(runtime, somebody(runtime), about=record, work_id=work)
    settled(runtime, claim_id)
    if by == "claim":
        erasing.erase_claim(runtime, claim_id, erasing.Asked("requested", "artist"))
    else:
        erasure.erase(runtime, record, reason="requested", asked_by="artist")
    with runtime.sessions() as session:
        claim = session.get_one(Claim, claim_id)
        assert (claim.salt, claim.identity_id) == (None, None)
        assert session.scalar(sa.select(sa.func.count()).select_from(ClaimDocument)) == 0
        assert session.scalar(sa.select(sa.func.count()).select_from(ClaimStep)) == 3
        with pytest.raises(NotFound) as gone:
            views.report(session, claim_id)
    assert gone.value.code == "claim_erased"
    found = seen(runtime, claim_id)
    assert (found.erased, found.claimant, found.decision, found.next_events) == (True, None, None, [])
    with runtime.sessions.begin() as session, pytest.raises(Conflict):
        replies.close(session, runtime, claim_id, "operator")

    def opening_entry() -> lookup.EntryView:
        with runtime.sessions() as session:
            return lookup.by_index(session, runtime.shard, found.steps[0].index or 0)

    until(lambda: opening_entry().redaction)
    opened = opening_entry()
    assert (opened.type, opened.answer, opened.payload) == ("lawful-ledger/claim-opened/1", "redacted", None)
    assert opened.redaction is not None
    assert (opened.redaction.reason, opened.redaction.asked_by) == ("requested", "artist")


def test_nothing_of_a_claim_goes_before_the_log_can_say_of_each_entry_that_it_went(runtime: Runtime) -> None:
    record = stamped(runtime, png(50))
    claim_id = claimed(runtime, somebody(runtime), about=record, work=png(51))
    settled(runtime, claim_id)
    with runtime.sessions() as session:
        replies.appeal(session, runtime, claim_id, "claimant", "Look again.")  # its entry has no place yet
        with pytest.raises(Unavailable) as refused:
            erasing.forget_about(session, runtime, record, erasing.Asked("requested", "artist"))
    assert refused.value.code == "claim_moved"
    assert seen(runtime, claim_id).decision is not None


def test_files_handed_in_for_a_claim_that_was_never_opened_are_swept(runtime: Runtime) -> None:
    wanted = claimed(runtime, somebody(runtime), image=png(80), work=png(81))
    orphan = f"claims/{uuid.uuid4()}/image"
    runtime.storage.put(orphan, png(82))
    assert sweep(runtime, grace=dt.timedelta(0)) == 1
    runtime.storage.get(f"claims/{wanted}/image")
    runtime.storage.get(f"claims/{wanted}/work")


def test_lists_go_from_the_newest_to_the_oldest_without_repeating_any(runtime: Runtime) -> None:
    record = stamped(runtime, png(50))
    made = [claimed(runtime, somebody(runtime, f"{n}@example.org"), about=record, work=png(60 + n)) for n in range(5)]
    with runtime.sessions() as session:
        first = views.newest_claims(session, limit=2)
        rest = views.newest_claims(session, before=uuid.UUID(first[-1].id), about=record)
        assert views.newest_claims(session, about=uuid.uuid4()) == []
    assert [each.id for each in first + rest] == [str(each) for each in reversed(made)]
