"""Claims that wait: for an examination that fails, for an answer, for the day on which the ledger closes them."""

import dataclasses
import datetime as dt
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from ledger import jobs, worker
from ledger.claims import deciding, replies
from ledger.errors import NotFound
from ledger.runtime import Runtime

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
