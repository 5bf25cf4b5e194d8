"""How a ledger stands at this moment, in numbers: what metrics and `lawful doctor` are made of.

Read from the database alone, in a handful of indexed queries, so that any process may say it, the web process of a
ledger whose worker is dead included. Ages are in seconds, by the database's clock against its own times.
"""

import datetime as dt
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger import issue, jobs
from ledger.claims import moving
from ledger.claims.steps import WAITING
from ledger.database.tables.claims import Claim
from ledger.database.tables.log import LogOutbox, LogPublished, LogTimestamp, LogWitness
from ledger.database.tables.works import Calibration
from ledger.log.policy import load_policy
from ledger.log.shard import query_of, witnessed_head
from ledger.runtime import Runtime
from ledger.snapshots import newest_snapshot

UNFINISHED_AFTER = dt.timedelta(minutes=5)


@dataclass(frozen=True)
class Queue:
    """Jobs of one task. `failed` are those given up for good: each is a row that an operator can look at."""

    waiting: int
    running: int
    failed: int
    oldest: float | None  # seconds since the oldest waiting one was accepted


@dataclass(frozen=True)
class WitnessStanding:
    """One witness of the policy. `entries` behind what is published; None where it never cosigned anything."""

    name: str
    behind: int | None
    age: float | None  # seconds since its newest cosignature
    failing: bool


@dataclass(frozen=True)
class Claims:
    """Claims that wait for the ledger: to be examined, or decided. `oldest`: seconds that the first has waited."""

    undecided: int
    oldest: float | None


@dataclass(frozen=True)
class Collection:
    """The newest snapshot, which is what images are compared with. `calibrated`: seconds since its error rates were
    measured, None where they were not."""

    digest: str
    works: int
    age: float
    calibrated: float | None


@dataclass(frozen=True)
class Standing:
    worker: bool
    queues: dict[str, Queue]  # by task
    unfinished: int  # records half-way for more than five minutes without a job
    claims: Claims
    outbox: int
    outbox_age: float  # seconds; 0 where nothing waits
    log_size: int
    checkpoint_age: float | None
    timestamp_age: float | None
    witnessed_size: int | None  # None without a policy
    witnesses: list[WitnessStanding]
    certificate: float  # seconds until the signing certificate expires; negative afterwards
    collection: Collection | None


def standing(runtime: Runtime) -> Standing:
    """Raises Unavailable when the database does not answer."""
    with runtime.sessions() as session:
        now = session.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        published = session.get(LogPublished, runtime.shard)
        waiting, oldest = session.execute(sa.select(sa.func.count(), sa.func.min(LogOutbox.created_at))).one()
        stamped = session.scalar(
            sa.select(sa.func.max(LogTimestamp.created_at)).where(LogTimestamp.shard == runtime.shard)
        )
        size = published.size if published is not None else 0
        witnessed, witnesses = _witnesses(session, runtime, size, now)
        return Standing(
            worker=jobs.worker_is_alive(session),
            queues=_queues(session, now),
            unfinished=len(issue.unfinished(session, runtime.clock() - UNFINISHED_AFTER)),
            claims=_claims(session, now),
            outbox=waiting,
            outbox_age=_age(now, oldest) or 0.0,
            log_size=size,
            checkpoint_age=_age(now, published.published_at if published is not None else None),
            timestamp_age=_age(now, stamped),
            witnessed_size=witnessed,
            witnesses=witnesses,
            certificate=(runtime.keys.credential.not_after - now).total_seconds(),
            collection=_collection(session, runtime, now),
        )


def _queues(session: Session, now: dt.datetime) -> dict[str, Queue]:
    """A notice that waits has no age here: it waits for somebody else's server, for hours, and nothing is wrong."""
    rows = session.execute(
        sa.text(
            "SELECT task_name, count(*) FILTER (WHERE status = 'todo'), count(*) FILTER (WHERE status = 'doing'),"
            " count(*) FILTER (WHERE status = 'failed'),"
            " min((SELECT min(at) FROM procrastinate_events WHERE job_id = jobs.id))"
            " FILTER (WHERE status = 'todo' AND queue_name = :images)"
            " FROM procrastinate_jobs AS jobs WHERE status IN ('todo', 'doing', 'failed') GROUP BY task_name"
        ),
        {"images": jobs.QUEUE},
    )
    return {task: Queue(todo, doing, failed, _age(now, oldest)) for task, todo, doing, failed, oldest in rows}


def _claims(session: Session, now: dt.datetime) -> Claims:
    last = moving.last_steps()
    undecided, oldest = session.execute(
        sa.select(sa.func.count(), sa.func.min(last.c.created_at))
        .join(Claim, Claim.id == last.c.claim_id)
        .where(last.c.state.in_(WAITING), Claim.erased_at.is_(None))
    ).one()
    return Claims(undecided, _age(now, oldest))


def _witnesses(
    session: Session, runtime: Runtime, size: int, now: dt.datetime
) -> tuple[int | None, list[WitnessStanding]]:
    path = runtime.settings.witness_policy
    if path is None:
        return None, []
    policy = load_policy(path)
    head = witnessed_head(query_of(session), runtime.shard, policy.sha256)
    known = {row.vkey: row for row in session.scalars(sa.select(LogWitness).filter_by(shard=runtime.shard))}
    found = []
    for witness in policy.witnesses:
        row = known.get(witness.verifier.vkey)
        behind = None if row is None or row.size is None else max(size - row.size, 0)
        age = _age(now, row.cosigned_at if row is not None else None)
        found.append(WitnessStanding(witness.name, behind, age, failing=row is None or row.failure is not None))
    return head.size if head is not None else 0, found


def _collection(session: Session, runtime: Runtime, now: dt.datetime) -> Collection | None:
    settings = runtime.settings
    snapshot = newest_snapshot(session, collection=settings.collection, background=settings.background)
    if snapshot is None:
        return None
    measured = session.scalar(
        sa.select(sa.func.max(Calibration.created_at)).where(Calibration.sha256 == snapshot.calibration)
    )
    age = (now - snapshot.created_at).total_seconds()
    return Collection(snapshot.digest.hex(), snapshot.works, age, _age(now, measured))


def _age(now: dt.datetime, since: dt.datetime | None) -> float | None:
    return None if since is None else max((now - since).total_seconds(), 0.0)
