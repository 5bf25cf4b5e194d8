"""Limits: one count for all web processes, told in the headers, and nobody's trouble when the database is away."""

import dataclasses
import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
import structlog

from ledger import limits
from ledger.database.tables.principals import RequestCount
from ledger.runtime import Runtime, open_runtime
from ledger.web.limiting import MINUTE

from .audited import bearer, token
from .http_ledger import png, serving

pytestmark = pytest.mark.postgres

LOOK: dict[str, Any] = {"content": png(1), "headers": {"content-type": "image/png"}}


@contextmanager
def statements(runtime: Runtime) -> Iterator[list[str]]:
    """What is sent to the database meanwhile."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    sa.event.listen(runtime.database.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(runtime.database.engine, "before_cursor_execute", note)


def of_counts(sent: list[str]) -> list[str]:
    return [each for each in sent if "request_counts" in each]


def few(runtime: Runtime, **settings: int) -> Runtime:
    return dataclasses.replace(runtime, settings=runtime.settings.model_copy(update=settings))


def test_two_web_processes_let_in_together_what_one_would(runtime: Runtime) -> None:
    with open_runtime(runtime.settings) as second:
        apps = [few(each, looks_per_minute=3, audit_pages_per_minute=1) for each in (runtime, second)]
        shown = bearer(token(runtime))
        with serving(apps[0]) as one, serving(apps[1]) as other:
            looks = [client.post("/v1/verifications", **LOOK) for client in (one, other, one, other, one)]
            pages = [client.get("/v1/audit/entries", headers=shown) for client in (one, other)]
            another = one.get("/v1/audit/entries", headers=bearer(token(runtime)))
    assert [each.status_code for each in looks] == [202, 202, 202, 429, 429]
    assert [each.headers["ratelimit-remaining"] for each in looks] == ["2", "1", "0", "0", "0"]
    for refused in looks[3:]:
        assert refused.json()["code"] == "too_many_requests"
        assert refused.headers["ratelimit-limit"] == "3"
        assert refused.headers["ratelimit-policy"] == "3; w=60"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["retry-after"] == refused.headers["ratelimit-reset"]
    assert [each.status_code for each in pages] == [200, 429]
    assert another.status_code == 200  # each token for itself


def test_nothing_is_lost_of_what_many_count_at_once(runtime: Runtime) -> None:
    with open_runtime(runtime.settings) as second, ThreadPoolExecutor(8) as threads:
        engines = [each.database.engine for each in (runtime, second)]
        counts = list(
            threads.map(lambda n: limits.count(engines[n % 2], "looks", "192.0.2.1", MINUTE).taken, range(100))
        )
    assert sorted(counts) == list(range(1, 101))


def test_a_minute_that_is_over_is_counted_anew_and_swept(runtime: Runtime) -> None:
    engine = runtime.database.engine
    for _ in range(3):
        limits.count(engine, "looks", "192.0.2.1", MINUTE)
    with runtime.sessions.begin() as session:
        session.execute(sa.update(RequestCount).values(ends_at=sa.func.now() - dt.timedelta(seconds=1)))
    again = limits.count(engine, "looks", "192.0.2.1", MINUTE)
    assert again.taken == 1
    assert 59 <= again.seconds_left <= 60
    limits.count(engine, "looks", "192.0.2.2", MINUTE)
    with runtime.sessions.begin() as session:
        newest = sa.select(RequestCount.who).order_by(RequestCount.ends_at.desc()).limit(1).scalar_subquery()
        session.execute(
            sa.update(RequestCount).where(RequestCount.who != newest).values(ends_at=sa.func.now() - dt.timedelta(1))
        )
        limits.forget(session)
        (left,) = session.scalars(sa.select(RequestCount))
    assert left.taken == 1
    assert b"192.0.2.2" not in left.who


def test_a_count_is_one_statement_a_flood_is_none_and_a_lookup_is_not_counted(runtime: Runtime) -> None:
    with serving(few(runtime, looks_per_minute=1)) as client:
        with statements(runtime) as sent:
            assert client.post("/v1/verifications", **LOOK).status_code == 202
        assert len(of_counts(sent)) == 1
        assert client.post("/v1/verifications", **LOOK).status_code == 429
        with statements(runtime) as sent:
            for _ in range(20):
                assert client.post("/v1/verifications", **LOOK).status_code == 429
        assert sent == []
        with statements(runtime) as sent:
            assert client.get(f"/v1/records?file_sha256={'0' * 64}").status_code == 200
        assert sent
        assert of_counts(sent) == []


def test_counts_are_written_to_no_disk_that_a_request_waits_for(runtime: Runtime) -> None:
    with runtime.sessions() as session:
        kept = session.scalar(sa.text("SELECT relpersistence FROM pg_class WHERE relname = 'request_counts'"))
    assert kept == "u"  # unlogged


def test_without_a_database_a_limit_refuses_nobody_and_the_rest_is_503(runtime: Runtime, superuser: Any) -> None:
    name = runtime.settings.database_url.get_secret_value().rsplit("/", 1)[-1].partition("?")[0]  # type: ignore[union-attr]
    with serving(few(runtime, looks_per_minute=1)) as client:
        superuser.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            superuser.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            with structlog.testing.capture_logs() as logged:
                answers = [client.post("/v1/verifications", **LOOK) for _ in range(2)]
            assert client.get("/sign-in").status_code == 200
        finally:
            superuser.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        assert [each.status_code for each in answers] == [503, 503]
        assert all(int(each.headers["retry-after"]) > 0 for each in answers)
        lines = [each for each in logged if each["event"] == "limit_not_counted"]
        assert [each["limit"] for each in lines] == ["looks", "looks"]
        assert client.post("/v1/verifications", **LOOK).status_code == 202
