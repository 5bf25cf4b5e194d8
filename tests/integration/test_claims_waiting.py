"""Claims that wait: for an examination that fails, for an answer, for the day on which the ledger closes them."""

import dataclasses
import datetime as dt
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from ledger import doctor, jobs, standing, worker
from ledger.claims import deciding, replies
from ledger.errors import NotFound
from ledger.runtime import Runtime
from ledger.settings import Settings

from .claiming import claimed, seen, settled, somebody
from .http_ledger import png, stamped

pytestmark = pytest.mark.postgres

A_MINUTE = dt.timedelta(minutes=1)


def test_a_claim_whose_examination_fails_is_tried_ever_later_and_shows_it(runtime: Runtime) -> None:
    claim_id = claimed(runtime, somebody(runtime), about=stamped(runtime, png(50)), work=png(51))
    now = runtime.clock()
    with runtime.sessions.begin() as session:
        session.execute(sa.text("UPDATE procrastinate_jobs SET status = 'failed'"))
        for _ in range(5):
            jobs.defer(session, "examine", claim_id)
        session.execute(sa.text("UPDATE procrastinate_jobs SET status = 'failed'"))
        assert deciding.waiting(session, now + dt.timedelta(minutes=60), A_MINUTE) == []
        assert deciding.waiting(session, now + dt.timedelta(minutes=66), A_MINUTE) == [claim_id]
    assert seen(runtime, claim_id).failures == 6
    assert settled(runtime, claim_id).failures == 0


def test_doctor_counts_the_claims_that_wait_and_looks_once(
    runtime: Runtime, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Runtime] = []

    def counted(of: Runtime) -> standing.Standing:
        read.append(of)
        return standing.standing(of)

    def on_claims() -> doctor.Finding:
        return next(each for each in doctor.examine(settings, networks=False) if each.name == "claims")

    monkeypatch.setattr(doctor, "standing", counted)
    assert (on_claims().result, on_claims().detail) == ("pass", "no claim waits for its decision")
    assert len(read) == 2
    jane = somebody(runtime)
    settled(runtime, claimed(runtime, jane, image=png(80), work=png(81)))  # decided: it waits for people
    claimed(runtime, jane, image=png(82), work=png(83))
    assert (on_claims().result, on_claims().detail[:34]) == ("pass", "1 claims wait for their decision, ")
    earlier = dataclasses.replace(runtime, clock=lambda: dt.datetime.now(dt.UTC) - dt.timedelta(hours=5))
    claimed(earlier, jane, image=png(84), work=png(85))
    found = on_claims()
    assert (found.result, found.detail) == ("warn", "2 claims wait for their decision, the first for 5 hours")
    assert "lawful claim list" in str(found.next_step)


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({}, "pass"),
        ({"public_url": "http://localhost:8000"}, "pass"),
        ({"public_url": "https://ledger.example.org"}, "warn"),
        ({"public_url": "http://ledger.example.org"}, "warn"),
        ({"public_url": "https://ledger.example.org", "smtp_url": SecretStr("smtps://mail.example.org")}, "warn"),
        ({"smtp_url": SecretStr("smtps://mail.example.org"), "mail_from": "ledger@example.org"}, "pass"),
    ],
    ids=["here", "localhost", "https", "http", "no-sender", "mail"],
)
def test_doctor_warns_where_others_sign_in_and_no_mail_is_sent(
    settings: Settings, changes: dict[str, object], result: str
) -> None:
    found = next(
        each for each in doctor.examine(settings.model_copy(update=changes), networks=False) if each.name == "mail"
    )
    assert found.result == result
    assert (found.next_step is None) == (result == "pass")


def test_a_claim_that_kills_the_worker_every_time_ends_its_job(runtime: Runtime) -> None:
    claim_id = claimed(runtime, somebody(runtime), about=stamped(runtime, png(50)), work=png(51))
    examine = worker._application(worker.Worker(runtime)).tasks["examine"]
    job = SimpleNamespace(attempts=worker.MOST_ATTEMPTS_ON_CLAIM)
    with pytest.raises(RuntimeError, match="given up") as given_up:
        examine.func(SimpleNamespace(job=job), record_id=str(claim_id))
    assert examine.get_retry_exception(given_up.value, job) is None  # type: ignore[arg-type]
    assert seen(runtime, claim_id).state == "opened"


def test_two_weeks_after_a_decision_the_ledger_closes_the_claim(runtime: Runtime) -> None:
    claim_id = claimed(runtime, somebody(runtime), image=png(80), work=png(81))
    settled(runtime, claim_id)
    assert replies.close_due(runtime) == 0
    later = dataclasses.replace(runtime, clock=lambda: dt.datetime.now(dt.UTC) + replies.REPLY_TIME * 1.01)
    assert replies.close_due(later) == 1
    assert seen(runtime, claim_id).state == "closed"
    assert not list((runtime.settings.files_folder / "claims").rglob("*.*"))
    with pytest.raises(NotFound):
        runtime.storage.get(f"claims/{claim_id}/image")


def _waiting_for_a_row(runtime: Runtime) -> int:
    with runtime.sessions() as session:  # a new one each time: a transaction sees one moment of this view
        waiting = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        return session.execute(waiting).scalar_one()


def test_an_answer_at_the_last_moment_keeps_the_claim_open(runtime: Runtime) -> None:
    claim_id = claimed(runtime, somebody(runtime), image=png(80), work=png(81))
    settled(runtime, claim_id)
    later = dataclasses.replace(runtime, clock=lambda: dt.datetime.now(dt.UTC) + replies.REPLY_TIME * 1.01)
    with ThreadPoolExecutor(1) as thread:
        with runtime.sessions.begin() as session:
            replies.answer(session, later, claim_id, "operator", "At last.")
            closing = thread.submit(replies.close_due, later)  # it sees a decision that is due, and waits for the row
            while not closing.done() and _waiting_for_a_row(runtime) == 0:
                time.sleep(0.02)
        assert closing.result() == 0
    assert seen(runtime, claim_id).state == "answered"
