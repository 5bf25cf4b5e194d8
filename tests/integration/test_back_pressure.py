"""More than can be done is refused at once, with when to come again; no line of waiting visitors or jobs is endless."""

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ledger import jobs
from ledger.artists import enrolling
from ledger.database.tables.artists import Enrolment
from ledger.database.tables.claims import Claim
from ledger.database.tables.records import Record
from ledger.errors import Unavailable
from ledger.runtime import Runtime
from ledger.sources import Grants
from ledger.web import intake
from ledger.web.app import templates
from ledger.web.intake import not_too_many

from .claiming import claimed, somebody, works_of
from .desks import artist_of, link
from .http_ledger import api_key, png, serving, stamped

NOBODY = "0" * 64


def scope(path: str, method: str = "GET") -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "path_params": {}}


def test_reads_beyond_the_limit_are_told_at_once_and_those_in_hand_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "MOST_READS", 2)

    async def visit() -> list[int]:
        go_on, told = asyncio.Event(), []

        async def slow(_scope: object, _receive: object, send: Any) -> None:
            await go_on.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                told.append(message["status"])

        app: Any = not_too_many(slow, templates())  # type: ignore[arg-type]
        asked = [("/v1/a", "GET")] * 2 + [("/healthz", "GET"), ("/v1/stamps", "POST"), ("/v1/b", "GET")]
        visitors = [asyncio.create_task(app(scope(*each), None, send)) for each in asked]
        await asyncio.sleep(0.01)
        assert told == [503], "only the third read was not taken in"
        go_on.set()
        await asyncio.gather(*visitors)
        await app(scope("/v1/c"), None, send)
        return told

    assert asyncio.run(visit()) == [503, 200, 200, 200, 200, 200]


def test_who_reads_an_answer_slowly_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MOST_READS", 1)

    async def visit() -> list[int]:
        told: list[int] = []

        async def answer(_scope: object, _receive: object, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"long"})

        async def slow(message: Any) -> None:
            if message["type"] == "http.response.start":
                told.append(message["status"])
            else:
                await asyncio.sleep(0.05)

        app: Any = not_too_many(answer, templates())  # type: ignore[arg-type]
        readers = [asyncio.create_task(app(scope("/v1/file"), None, slow)) for _ in range(5)]
        await asyncio.gather(*readers)
        return told

    assert asyncio.run(visit()) == [200] * 5


@pytest.mark.postgres
def test_who_is_turned_away_is_told_when_to_come_again(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MOST_READS", 0)
    with serving(runtime) as client:
        for path, kind in ((f"/v1/records?file_sha256={NOBODY}", "application/problem+json"), ("/log", "text/html")):
            answer = client.get(path, headers={"accept": "text/html"})
            assert answer.status_code == 503
            assert answer.headers["content-type"].startswith(kind)
            assert int(answer.headers["retry-after"]) > 0
            assert "content-security-policy" in answer.headers
            assert answer.headers["x-request-id"] in answer.text
            assert "too_busy" in answer.text
        assert client.head("/log").content == b""
        assert client.get("/healthz").status_code == 200
        assert client.post("/v1/verifications", files={"file": png()}).status_code == 202


@pytest.mark.postgres
def test_a_full_queue_takes_no_more_of_its_kind_and_keeps_nothing_of_what_it_refused(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOST_WAITING", 2)
    authorized = {"Authorization": f"Bearer {api_key(runtime)}"}
    with serving(runtime) as client:
        taken = [client.post("/v1/verifications", files={"file": png(n)}) for n in (1, 2)]
        assert [answer.status_code for answer in taken] == [202, 202]
        refused = client.post("/v1/verifications", files={"file": png(3)})
        assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
        assert int(refused.headers["retry-after"]) > 0
        with runtime.sessions() as session:
            assert session.scalar(sa.select(sa.func.count()).select_from(Record)) == 2
        assert len(list(runtime.storage.stored("uploads"))) == 2

        keys = [{**authorized, "Idempotency-Key": str(uuid.uuid4())} for _ in range(3)]
        made = [client.post("/v1/stamps", files={"file": png(n)}, headers=key) for n, key in enumerate(keys)]
        assert [answer.status_code for answer in made] == [202, 202, 503], "looks do not keep records out"
        assert len(list(runtime.storage.stored("sources"))) == 2
        again = client.post("/v1/stamps", files={"file": png(0)}, headers=keys[0])
        assert (again.status_code, again.json()["id"]) == (202, made[0].json()["id"])

        with runtime.sessions.begin() as session:
            session.execute(sa.text("DELETE FROM procrastinate_jobs WHERE task_name = 'stamp'"))
        assert client.post("/v1/stamps", files={"file": png(2)}, headers=keys[2]).status_code == 202


@pytest.mark.postgres
def test_claims_and_enrolments_have_lines_of_their_own_that_end(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOST_WAITING", 1)
    (work,), jane, record = works_of(runtime, tmp_path), somebody(runtime), stamped(runtime, png(1))
    artist = artist_of(runtime, work)
    link(runtime, artist, jane)
    first, second = (
        enrolling.Wish(png(n), f"No. {n}", "CC-BY-4.0", Grants(train=False, compare=True, name=True)) for n in (70, 71)
    )
    claimed(runtime, about=record, work_id=work)
    enrolling.ask(runtime, jane, artist, first)
    for refused in (
        lambda: claimed(runtime, jane, about=record, work_id=work),
        lambda: enrolling.ask(runtime, jane, artist, second),
    ):
        with pytest.raises(Unavailable) as error:
            refused()
        assert error.value.code == "queue_full"
    with runtime.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Claim)) == 1
        assert session.scalar(sa.select(sa.func.count()).select_from(Enrolment)) == 1
    assert len(list(runtime.storage.stored("enrolments"))) == 1
