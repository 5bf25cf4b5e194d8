"""The queue, in our own Postgres: a job is enqueued in the transaction that accepts its record, and carries an id.

The web process and the CLI know jobs by name; `ledger.worker` holds what they do, and only it loads the networks.
"""

import time
import uuid
from typing import Literal

import procrastinate
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, sessionmaker
from structlog.contextvars import get_contextvars

from ledger import tracing
from ledger.database.tables.records import Record
from ledger.errors import LedgerError, Unavailable

QUEUE = "images"
NOTICES = "notices"
"""The queue of what is told to others: whoever is slow to listen keeps no image waiting."""

Task = Literal["generate", "stamp", "verify", "examine", "enrol"]

MOST_WAITING = 1000
"""Jobs of one task. On a processor that is most of an hour: whoever came after would have left."""

_JOBS = sa.table(
    "procrastinate_jobs", sa.column("args", JSONB), sa.column("status"), sa.column("queue_name"), sa.column("task_name")
)

# Deferring needs no connection of its own: the caller's transaction is used.
_DEFERRING = procrastinate.App(connector=procrastinate.SyncPsycopgConnector())


def priority(task: Task) -> int:
    """Anybody may ask for looks and claims, and indexing takes long: records go first."""
    return {"verify": -1, "examine": -1, "enrol": -2}.get(task, 0)


def require_room(session: Session, task: Task) -> None:
    """Call before anything is kept for a new job. Raises Unavailable `queue_full` where MOST_WAITING wait already; each
    task has its own line, so that visitors' looks never keep a record out.
    """
    waiting = sa.select(sa.literal(1)).where(
        _JOBS.c.queue_name == QUEUE, sa.cast(_JOBS.c.status, sa.Text) == "todo", _JOBS.c.task_name == task
    )
    counted = session.scalar(sa.select(sa.func.count()).select_from(waiting.limit(MOST_WAITING).subquery()))
    if counted is not None and counted >= MOST_WAITING:
        raise Unavailable(
            f"{MOST_WAITING} jobs of this kind wait already",
            code="queue_full",
            next_step="send it again in a few minutes; nothing was recorded",
        )


def defer(session: Session, task: Task, record_id: uuid.UUID) -> None:
    """Enqueue `task` for a record, `examine` for a claim or `enrol` for an enrolment, inside the session's open
    transaction: both commit or neither does.

    The request that asked for it, where there is one, is named in what the worker writes to its log, and its trace goes
    on in the worker.
    """
    connection = session.connection().connection.driver_connection
    _DEFERRING.configure_task(
        name=task,
        queue=QUEUE,
        lock=str(record_id),  # one worker at a time per record
        priority=priority(task),
        connection=connection,
        allow_unknown=True,
    ).defer(record_id=str(record_id), request_id=get_contextvars().get("request_id"), **tracing.carried())


def defer_notice(session: Session, record_id: uuid.UUID, artist_id: uuid.UUID, identity_id: uuid.UUID) -> None:
    """Enqueue a notice to this person's webhook for this artist, inside the session's open transaction."""
    _DEFERRING.configure_task(
        name="tell",
        queue=NOTICES,
        connection=session.connection().connection.driver_connection,
        allow_unknown=True,
    ).defer(about=str(record_id), artist_id=str(artist_id), identity_id=str(identity_id), **tracing.carried())


def failures(of: sa.SQLColumnExpression[uuid.UUID]) -> sa.ScalarSelect[int]:
    """How many jobs for the record or claim with this id have failed for good."""
    return (
        sa.select(sa.func.count())
        .where(_JOBS.c.args["record_id"].astext == sa.cast(of, sa.Text), sa.cast(_JOBS.c.status, sa.Text) == "failed")
        .scalar_subquery()
    )


def worker_is_alive(session: Session, within_seconds: float = 10.0) -> bool:
    """True when a worker's heartbeat is fresh, so that an enqueued job will be taken."""
    return bool(
        session.execute(
            sa.text(
                "SELECT EXISTS (SELECT 1 FROM procrastinate_workers"
                " WHERE last_heartbeat > now() - make_interval(secs => :seconds))"
            ),
            {"seconds": within_seconds},
        ).scalar_one()
    )


def wait(sessions: sessionmaker[Session], record_id: uuid.UUID, timeout: float) -> str:
    """Block until the record is finished or `timeout` seconds have passed; return its state.

    Finished means `issued`, or `signed` for a verification, whose entry need not be waited for.
    Raises LedgerError with the stored failure when the record was abandoned.
    """
    deadline = time.monotonic() + timeout
    while True:
        with sessions() as session:
            kind, state, failure = session.execute(
                sa.select(Record.kind, Record.state, Record.failure).where(Record.id == record_id)
            ).one()
        if state == "abandoned":
            raise failure_of(failure)
        if state == "issued" or (kind == "verification" and state != "accepted"):
            return str(state)
        if time.monotonic() >= deadline:
            return str(state)
        time.sleep(0.03)


def failure_of(failure: dict[str, object] | None) -> LedgerError:
    """The error that ended a job, as it is told to whoever asks for the record."""
    failure = failure or {}
    return LedgerError(
        str(failure.get("detail", "the job was abandoned")),
        code=str(failure.get("code", "job_abandoned")),
        next_step=str(failure.get("next_step", "submit it again")),
        status=int(str(failure.get("status", 500))),
    )
