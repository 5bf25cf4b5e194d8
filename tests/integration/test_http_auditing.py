"""The auditors' door: every entry once and in order, each with a proof that stands; whole periods; nobody revealed."""

import base64
import datetime as dt
import io
import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from attribution.gate import GatePolicy
from ledger import auditors, disclosure, grants
from ledger.claims import erasing
from ledger.database.tables.principals import AuditorToken
from ledger.database.tables.works import Work
from ledger.erasure import erase
from ledger.errors import BadRequest, Conflict
from ledger.log import entries, merkle
from ledger.log.statements import sign_statement
from ledger.log.verify import check_tlog_proof
from ledger.runtime import Runtime

from .audited import artist, bearer, pages, rows, token
from .claiming import claimed, settled, somebody, works_of
from .http_ledger import EVIDENCE, FOUND, MODEL, all_logged, api_key, generated, looked, png, serving, stamped, told

pytestmark = pytest.mark.postgres


def assert_proven(runtime: Runtime, found: list[dict[str, Any]]) -> None:
    assert found
    for row in found:
        entry = base64.b64decode(row["entry"])
        assert merkle.leaf_hash(entry).hex() == row["leaf_hash"]
        reading = check_tlog_proof(entry, row["proof"].encode(), [runtime.keys.log.vkey])
        assert (reading.inclusion, reading.log_key, reading.index) == (True, "trusted", row["index"])


def logged(runtime: Runtime, *payloads: dict[str, Any]) -> list[bytes]:
    """Statements of the ledger in its log, waited for."""
    signed = [
        sign_statement(each, runtime.keys.statements, issuer=runtime.settings.origin, subject=str(each["type"]))
        for each in payloads
    ]
    with runtime.sessions.begin() as session:
        leaves = entries.append_many(session, signed)
    for leaf in leaves:
        entries.wait(runtime.sessions, runtime.shard, leaf, 20)
    return leaves


def test_every_entry_comes_once_and_in_order_while_the_log_grows(runtime: Runtime) -> None:
    shown = token(runtime)
    generated(runtime)
    seen: list[int] = []
    with serving(runtime) as client:
        for number, page in enumerate(pages(client, shown, limit=2)):
            seen += [row["index"] for row in page["rows"]]
            assert_proven(runtime, page["rows"])
            if number < 3:
                stamped(runtime, png(10 + number))
        size = page["size"]
        assert seen == list(range(size))
        last = page["cursor"]
        again = client.get("/v1/audit/entries", params={"cursor": last}, headers=bearer(shown)).json()
        assert (again["rows"], again["more"], again["cursor"]) == ([], False, last)
        stamped(runtime, png(20))
        later = rows(client, shown)
        assert [row["index"] for row in later] == list(range(len(later)))
        follow = client.get("/v1/audit/entries", params={"cursor": last}, headers=bearer(shown)).json()
        assert [row["index"] for row in follow["rows"]] == list(range(last, len(later)))


def test_a_filter_that_lets_little_pass_skips_nothing(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that look at one entry each: some are empty, and the rows found are all there are."""
    monkeypatch.setattr(disclosure, "SPAN", 1)
    shown, ids = token(runtime), [generated(runtime, seed) for seed in (1, 2, 3)]
    with serving(runtime) as client:
        found = list(pages(client, shown, type="record"))
    assert [row["payload"]["record_id"] for page in found for row in page["rows"]] == [str(each) for each in ids]
    assert any(not page["rows"] and page["more"] for page in found)


def test_a_row_holds_the_entry_the_record_and_what_it_says(runtime: Runtime) -> None:
    record_id = generated(runtime)
    looked(runtime, png(5))
    all_logged(runtime)
    with serving(runtime) as client:
        found = rows(client, token(runtime))
        record = client.get(f"/v1/records/{record_id}").json()
        by_index = client.get(f"/v1/log/entries/{found[1]['index']}").json()
    types = [row["type"].split("/")[1] for row in found]
    assert types == ["genesis", "record", "issued", "verification"]
    assert found[1]["record"] == record
    assert found[1]["payload"] == by_index["payload"]
    assert found[1]["issuer"] == by_index["issuer"]
    assert [row["record"] for row in found[2:]] == [None, None]
    assert not any(row["redacted"] for row in found)
    times = [dt.datetime.fromisoformat(row["integrated_at"]) for row in found]
    assert times == sorted(times)


def test_who_made_a_look_is_told_to_nobody(runtime: Runtime) -> None:
    look = looked(runtime, png(5))
    with serving(runtime) as client:
        assert str(look) not in json.dumps(rows(client, token(runtime)))


def test_an_erased_record_keeps_its_place_and_proof_and_nothing_else(runtime: Runtime) -> None:
    record_id = generated(runtime)
    stays = generated(runtime, seed=2)
    with serving(runtime) as client:
        before = client.get(f"/v1/records/{record_id}").json()
        erase(runtime, record_id, reason="requested", asked_by="artist")
        with runtime.sessions() as session:
            entries.wait(runtime.sessions, runtime.shard, _erased_leaf(session, record_id), 20)
        found = rows(client, token(runtime))
    assert_proven(runtime, found)
    of_it = [row for row in found if row["redacted"]]
    assert [row["type"].split("/")[1] for row in of_it] == ["record", "issued"]
    assert [row["payload"] for row in of_it] == [None, None]
    assert of_it[0]["record"]["redacted"]
    assert before["pixel_sha256"] not in json.dumps(found)
    assert [row["payload"]["record_id"] for row in found if row["type"].endswith("record/1") and row["payload"]] == [
        str(stays)
    ]


def test_the_steps_of_an_erased_claim_keep_their_places_and_proofs(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path)
    record = stamped(runtime, png(50))
    claims = [
        claimed(runtime, somebody(runtime, email), about=record, work_id=work)
        for email in ("jane@example.org", "mary@example.org")
    ]
    for claim_id in claims:
        settled(runtime, claim_id)
    erasing.erase_claim(runtime, claims[0], erasing.Asked("requested", "artist"))
    with serving(runtime) as client:
        found = rows(client, token(runtime))
    assert_proven(runtime, found)
    steps = [row for row in found if "/claim" in row["type"]]
    assert len([row for row in steps if row["redacted"]]) == 3
    assert {row["payload"]["claim_id"] for row in steps if not row["redacted"]} == {str(claims[1])}


def _erased_leaf(session: Any, record_id: uuid.UUID) -> bytes:
    from ledger.database.tables.records import Record

    leaf = session.get_one(Record, record_id).erased_leaf
    assert leaf is not None
    return bytes(leaf)


# ---- filters ---------------------------------------------------------------------------------------------------------


def test_by_time_by_type_and_by_model(runtime: Runtime) -> None:
    shown = token(runtime)
    first = generated(runtime)
    second = stamped(runtime, png(2), 'a "model" of theirs')
    with serving(runtime) as client:
        everything = rows(client, shown)
        middle = everything[3]["integrated_at"]
        before = rows(client, shown, until=middle)
        after = rows(client, shown, since=middle)
        assert [*before, *after] == everything
        assert before
        assert all(
            dt.datetime.fromisoformat(row["integrated_at"]) < dt.datetime.fromisoformat(middle) for row in before
        )
        assert rows(client, shown, since="2101-01-01T00:00:00Z") == []
        assert rows(client, shown, until="2001-01-01T00:00:00") == []
        assert rows(client, shown, type="genesis") == rows(client, shown, type="lawful-ledger/genesis/1")
        assert len(rows(client, shown, type="issued")) == 2
        assert rows(client, shown, type="no-such-type") == []
        of_ours = rows(client, shown, model=MODEL["name"])
        assert [row["record"]["id"] for row in of_ours] == [str(first)]
        theirs = rows(client, shown, model='a "model" of theirs')
        assert [row["record"]["id"] for row in theirs] == [str(second)]
        assert rows(client, shown, model="another", type="record") == []
        assert_proven(runtime, theirs)


def test_by_decision(runtime: Runtime) -> None:
    shown = token(runtime)
    blocking = GatePolicy(identity="block", copy="block", refused="block", alpha=0.01)
    with pytest.raises(Conflict):
        generated(runtime, evidence=told(FOUND, policy=blocking))
    decided = {"type": "lawful-ledger/claim-decided/1", "outcome": "supported"}
    logged(runtime, decided, decided | {"outcome": "contradicted"}, {"type": "x/1", "said": '"outcome":"supported"'})
    with serving(runtime) as client:
        (blocked,) = rows(client, shown, decision="blocked")
        assert blocked["record"]["blocked"]["reasons"] == blocked["payload"]["reasons"]
        (supported,) = rows(client, shown, decision="supported")
        assert supported["payload"]["outcome"] == "supported"
        assert rows(client, shown, decision="inconclusive") == []
        assert_proven(runtime, [blocked, supported])


def test_by_artist_and_never_by_one_who_may_not_be_named(runtime: Runtime) -> None:
    named, protected = artist(runtime, "Ada", named=True), artist(runtime, "Secret Hand", named=False)
    neighbour = FOUND.neighbours["vae"].nearest[0]
    near = msgspec.structs.replace(neighbour, artist_id=str(named))
    axis = msgspec.structs.replace(FOUND.neighbours["vae"], nearest=[near])
    credited = generated(runtime, evidence=told(msgspec.structs.replace(FOUND, neighbours={"vae": axis})))
    generated(runtime, seed=2, evidence=EVIDENCE)
    with runtime.sessions() as session:
        works = list(session.scalars(sa.select(Work.id).where(Work.artist_id == named)))
        hidden = list(session.scalars(sa.select(Work.id).where(Work.artist_id == protected)))
    for each in (works, hidden):
        change = grants.change_grants(runtime, each, {"train": False}, by_role="artist").changes[0]
        entries.wait(runtime.sessions, runtime.shard, bytes.fromhex(change.leaf_hash), 20)
    shown = token(runtime)
    with serving(runtime) as client:
        record, grant = rows(client, shown, artist=str(named))
        assert record["record"]["id"] == str(credited)
        assert grant["payload"]["work_id"] == str(works[0])
        answers = [
            client.get("/v1/audit/entries", params={"artist": str(each)}, headers=bearer(shown))
            for each in (protected, uuid.uuid4())
        ]
        assert [each.status_code for each in answers] == [404, 404]
        told_apart = [{**each.json(), "instance": "", "detail": each.json()["detail"][-14:]} for each in answers]
        assert told_apart[0] == told_apart[1]
        everything = json.dumps(rows(client, shown)) + _export(client, shown, "ndjson").decode()
        assert "Secret Hand" not in everything
        assert str(protected) not in everything
        # a name that is withdrawn is not searched for any more either
        grants.change_grants(runtime, works, {"name": False}, by_role="artist")
        assert client.get("/v1/audit/entries", params={"artist": str(named)}, headers=bearer(shown)).status_code == 404


# ---- whole periods ---------------------------------------------------------------------------------------------------


def _export(client: Any, shown: str, form: str, **query: str) -> bytes:
    answer = client.get(
        f"/v1/audit/exports/{dt.datetime.now(dt.UTC):%Y-%m}.{form}", params=query, headers=bearer(shown)
    )
    assert answer.status_code == 200, answer.text
    return bytes(answer.content)


def test_an_export_is_the_period_row_for_row_in_both_forms(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disclosure, "MAX_ROWS", 3)
    for seed in (1, 2, 3):
        generated(runtime, seed)
    shown = token(runtime)
    with serving(runtime) as client:
        paged = rows(client, shown)
        lines = [json.loads(line) for line in _export(client, shown, "ndjson").splitlines()]
        table = pq.read_table(io.BytesIO(_export(client, shown, "parquet")))
        records_only = _export(client, shown, "ndjson", type="record").splitlines()
    assert lines == paged
    assert_proven(runtime, lines)
    assert len(records_only) == 3
    kept = table.to_pylist()
    for row in kept:
        row["integrated_at"] = row["integrated_at"].astimezone(dt.UTC).isoformat()
        row["payload"] = json.loads(row["payload"])
        row["record"] = json.loads(row["record"]) if row["record"] else None
    assert kept == paged
    described = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    assert described["origin"] == runtime.settings.origin
    assert int(described["size"]) == len(paged)
    assert all(row["proof"].endswith(described["checkpoint"]) for row in kept)


def test_a_period_in_which_nothing_was_logged_is_an_empty_file(runtime: Runtime) -> None:
    shown = token(runtime)
    with serving(runtime) as client:
        assert client.get("/v1/audit/exports/2001-02.ndjson", headers=bearer(shown)).content == b""
        empty = client.get("/v1/audit/exports/2001.parquet", headers=bearer(shown))
        assert empty.headers["content-disposition"] == 'attachment; filename="2001.parquet"'
        assert pq.read_table(io.BytesIO(empty.content)).num_rows == 0


def test_periods_meet_and_do_not_overlap() -> None:
    assert disclosure.period("2026")[1] == disclosure.period("2027")[0]
    assert disclosure.period("2026-12")[1] == disclosure.period("2027-01")[0] == disclosure.period("2027")[0]
    assert disclosure.period("2028-02-28")[1] == disclosure.period("2028-02-29")[0]
    assert disclosure.period("2028-02-29")[1] == disclosure.period("2028-03")[0]
    for wrong in ("", "26", "2026-13", "2026-02-30", "2026-1", "0000", "9999-12-31", "२०२६"):
        with pytest.raises(BadRequest):
            disclosure.period(wrong)


# ---- who is let in ---------------------------------------------------------------------------------------------------


def test_a_token_has_a_scope_and_an_end_and_writes_nothing(runtime: Runtime) -> None:
    pages_only, both, short = token(runtime, "entries"), token(runtime), token(runtime, days=1)
    with runtime.sessions.begin() as session:
        newest = session.scalars(sa.select(AuditorToken).order_by(AuditorToken.id.desc())).first()
        assert newest is not None
        newest.expires_at = runtime.clock() - dt.timedelta(seconds=1)
    asked = {
        "": (401, "audit_token_unknown"),
        "lawful_audit_nobody": (401, "audit_token_unknown"),
        api_key(runtime): (401, "audit_token_unknown"),
        short: (401, "audit_token_ended"),
    }
    with serving(runtime) as client:
        for shown, (status, code) in asked.items():
            for address in ("/v1/audit/entries", "/v1/audit/exports/2026-11.ndjson"):
                answer = client.get(address, headers=bearer(shown))
                assert (answer.status_code, answer.json()["code"]) == (status, code)
                assert answer.headers["www-authenticate"] == "Bearer"
        refused = client.get("/v1/audit/exports/2026-11.ndjson", headers=bearer(pages_only))
        assert (refused.status_code, refused.json()["code"]) == (403, "audit_token_scope")
        assert client.get("/v1/audit/entries", headers=bearer(both)).status_code == 200
        assert client.post("/v1/generations", json={"prompt": "a"}, headers=bearer(both)).status_code == 401
        with runtime.sessions.begin() as session:
            for row in auditors.tokens(session):
                auditors.revoke(session, row.id, runtime.clock())
        ended = client.get("/v1/audit/entries", headers=bearer(both))
        assert ended.json()["code"] == "audit_token_ended"


def test_the_token_itself_is_stored_nowhere(runtime: Runtime) -> None:
    shown = token(runtime)
    with runtime.sessions() as session:
        (row,) = auditors.tokens(session)
        assert shown not in json.dumps([row.label, row.scopes, row.token_sha256.hex()])
        assert len(shown) > 40


def test_each_token_has_its_own_limit_and_is_told_when_to_come_back(runtime: Runtime) -> None:
    few = runtime.settings.model_copy(update={"audit_pages_per_minute": 2})
    runtime = replace(runtime, settings=few)
    one, other = token(runtime), token(runtime)
    with serving(runtime) as client:
        answers = [client.get("/v1/audit/entries", headers=bearer(one)) for _ in range(3)]
        assert [each.status_code for each in answers] == [200, 200, 429]
        assert [each.headers["ratelimit-remaining"] for each in answers[:2]] == ["1", "0"]
        assert 1 <= int(answers[2].headers["retry-after"]) <= 60
        assert client.get("/v1/audit/entries", headers=bearer(other)).status_code == 200
        assert client.get("/v1/audit/exports/2026-11.ndjson", headers=bearer(one)).status_code == 200
        for _ in range(4):  # whoever is nobody is refused, and uses up nobody's count
            assert client.get("/v1/audit/entries", headers=bearer("lawful_audit_nobody")).status_code == 401


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"cursor": "-1"}, 422),
        ({"cursor": "x"}, 422),
        ({"limit": "0"}, 422),
        ({"limit": "201"}, 422),
        ({"type": "no type\x00"}, 400),
        ({"artist": "Ada"}, 422),
        ({"decision": "guilty"}, 422),
        ({"since": "yesterday"}, 422),
        ({"model": "\x00"}, 200),
        ({"cursor": str(2**53 - 1)}, 200),
    ],
    ids=str,
)
def test_a_query_that_makes_no_sense_is_refused_and_one_that_finds_nothing_is_not(
    runtime: Runtime, query: dict[str, str], status: int
) -> None:
    with serving(runtime) as client:
        answer = client.get("/v1/audit/entries", params=query, headers=bearer(token(runtime)))
        assert answer.status_code == status, answer.text
        name = client.get("/v1/audit/exports/2026-11.xml", headers=bearer(token(runtime)))
        assert name.json()["code"] == "export_name_malformed"
