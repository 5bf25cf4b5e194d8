"""Doing a job: by the worker that runs, or here when none does. Who asks on the command line is the operator."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger import jobs
from ledger.commands.frame import err
from ledger.database.tables.log import LogOutbox
from ledger.database.tables.principals import Principal
from ledger.errors import NotFound, Unavailable
from ledger.genesis import OPERATOR
from ledger.runtime import Runtime, open_runtime, sequencing
from ledger.settings import Settings

LOOK_AGAIN = 5.0  # seconds after which we see whether the worker still lives


@contextmanager
def founded(settings: Settings) -> Iterator[Runtime]:
    """The runtime of a ledger that exists. Raises NotFound `ledger_missing` instead of making an empty database."""
    if not settings.keys_folder.exists():
        raise NotFound(
            f"no ledger is founded in {settings.home}",
            code="ledger_missing",
            next_step="run `lawful init`, or name another folder with --home",
        )
    with open_runtime(settings) as runtime:
        yield runtime


def operator(session: Session) -> uuid.UUID:
    """The principal that `lawful init` made."""
    principal = session.scalar(sa.select(Principal.id).where(Principal.name == OPERATOR))
    if principal is None:
        raise NotFound(
            "this ledger has no operator", code="ledger_missing", next_step="run `lawful init` again: it finishes"
        )
    return principal


@contextmanager
def logged(runtime: Runtime) -> Iterator[None]:
    """What is done inside is in the log when it ends, though no worker runs; else it follows when one does."""
    with sequencing(runtime):
        yield
        deadline = time.monotonic() + runtime.settings.issue_timeout
        while _waiting_entries(runtime) and time.monotonic() < deadline:
            time.sleep(runtime.settings.sequencer_tick)


def _waiting_entries(runtime: Runtime) -> int:
    with runtime.sessions() as session:
        return session.execute(sa.select(sa.func.count()).select_from(LogOutbox)).scalar_one()


def do(runtime: Runtime, task: jobs.Task, record_id: uuid.UUID, timeout: float) -> None:
    """Bring a record to its end, waiting at most `timeout` seconds for a worker. Raises what the job failed with."""
    waited = 0.0
    while _worker_is_alive(runtime):
        state = jobs.wait(runtime.sessions, record_id, min(LOOK_AGAIN, timeout - waited))
        if _is_finished(task, state):
            return
        waited += LOOK_AGAIN
        if waited >= timeout:
            raise Unavailable(
                f"the worker has not finished record {record_id} within {timeout:g} s; it is {state}",
                code="still_working",
                next_step=f"nothing is lost: ask again with `lawful lookup {record_id}`, or wait longer with --timeout",
            )
    from ledger import worker

    err().print("no worker runs, so this process does the work …")
    worker.run_in_place(runtime, task, record_id)
    jobs.wait(runtime.sessions, record_id, 0)  # raises what ended a record that was abandoned before


def _worker_is_alive(runtime: Runtime) -> bool:
    with runtime.sessions() as session:
        return jobs.worker_is_alive(session)


def _is_finished(task: jobs.Task, state: str) -> bool:
    return state == "issued" or (task == "verify" and state == "signed")
