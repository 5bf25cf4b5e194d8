"""Is the process alive; can it do its work?"""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from litestar import Response, get
from litestar.di import NamedDependency

from ledger.database.tables.log import LogCheckpoint, LogOutbox
from ledger.errors import Unavailable
from ledger.jobs import worker_is_alive
from ledger.runtime import Runtime
from ledger.standing import Standing, standing
from ledger.web.problems import problems

LOG_MAY_LAG = dt.timedelta(seconds=30)


@get("/healthz", tags=["Operation"], summary="The process answers", response_description="It is alive.")
async def healthz() -> dict[str, str]:
    """Asks nothing of the database, so that a failing database does not get this process restarted."""
    return {"status": "ok"}


@get(
    "/v1/standing",
    sync_to_thread=True,
    tags=["Operation"],
    security=[{"key": []}],
    summary="How the ledger stands, in numbers",
    response_description="Queue, log, witnesses, collection; ages in seconds.",
    responses=problems(401, 403),
)
def read_standing(runtime: NamedDependency[Runtime]) -> Standing:
    """For operators and auditors: what waits, what was given up, how far behind the witnesses are."""
    return standing(runtime)


@get(
    "/readyz",
    sync_to_thread=True,
    tags=["Operation"],
    summary="Database, worker and log do their work",
    response_description="They do.",
    responses=problems(),
)
def readyz(runtime: NamedDependency[Runtime]) -> Response[dict[str, Any]]:
    """503 names what is missing. A quiet log is no fault: only a statement that waits for too long is."""
    with runtime.reading() as session:
        worker = worker_is_alive(session)
        newest, size = session.execute(
            sa.select(sa.func.max(LogCheckpoint.created_at), sa.func.max(LogCheckpoint.size)).where(
                LogCheckpoint.shard == runtime.shard
            )
        ).one()
        oldest = session.execute(sa.select(sa.func.min(LogOutbox.created_at))).scalar()
    if not worker:
        raise Unavailable(
            "no worker has shown itself in the last 30 seconds; what is accepted waits",
            code="worker_absent",
            next_step="start one with `lawful up` or `lawful run worker`",
        )
    now = runtime.clock()
    if oldest is not None and now - oldest > LOG_MAY_LAG:
        raise Unavailable(
            f"the log has not taken a statement for {(now - oldest).total_seconds():.0f} seconds",
            code="log_behind",
            next_step="see `lawful doctor`; a worker or `lawful run sequencer` writes the log",
        )
    return Response(
        {
            "status": "ready",
            "database": "ok",
            "worker": "ok",
            "checkpoint": None
            if newest is None
            else {"size": size, "age_seconds": round((now - newest).total_seconds(), 1)},
        }
    )
