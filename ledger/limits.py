"""How often something was asked for in a while, counted in the database: all web processes count together.

A fixed window: the first request opens a window, and whatever comes until its end is counted in one row. Two windows
that meet may let twice the limit through within its length; no more, and it costs one statement. The table is UNLOGGED:
no request waits for the disk, a crash of the server forgets the counts, and they are in no backup.

Whom a row counts for is kept as a digest, until its window ends (`forget`). That keeps addresses out of what people
read; it does not make them secret from whoever has the database, since all addresses can be tried.
"""

import hashlib
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

_COUNT = sa.text(
    """
    INSERT INTO request_counts AS known (who, taken, ends_at) VALUES (:who, 1, now() + make_interval(secs => :seconds))
    ON CONFLICT (who) DO UPDATE SET
        taken = CASE WHEN known.ends_at <= now() THEN 1 ELSE known.taken + 1 END,
        ends_at = CASE WHEN known.ends_at <= now() THEN excluded.ends_at ELSE known.ends_at END
    RETURNING taken, ceil(extract(epoch FROM ends_at - now()))::int
    """
)


class Count(NamedTuple):
    """Requests in this window, this one among them, and the whole seconds until it ends, at least 1."""

    taken: int
    seconds_left: int


def count(engine: sa.Engine, what: str, who: str, seconds: int) -> Count:
    """Count one request of `who` for `what` in a window of so many seconds.

    One statement, and the row's lock is held for no longer.
    Raises as any statement does when the database is away.
    """
    digest = hashlib.sha256(f"{what}\0{who}".encode("utf-8", "surrogatepass")).digest()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        taken, seconds_left = connection.execute(_COUNT, {"who": digest, "seconds": seconds}).one()
    return Count(taken, max(1, seconds_left))


def forget(session: Session) -> None:
    """Delete the counts of windows that are over."""
    session.execute(sa.text("DELETE FROM request_counts WHERE ends_at <= now()"))
