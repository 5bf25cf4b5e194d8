"""Statements that submitters sign themselves: what is taken, what is refused and under which name, and once only."""

import datetime as dt
import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cbor2
import httpx
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from litestar.testing import TestClient

from ledger import submissions
from ledger.api_keys import new_key
from ledger.cli import main
from ledger.database.tables.log import LogEntry, LogOutbox
from ledger.database.tables.principals import Principal, Submission, SubmitterKey
from ledger.errors import Conflict, NotFound
from ledger.log.statements import StatementKey, parse_statement, sign_statement, verify_statement
from ledger.log.verify import check_tlog_proof
from ledger.runtime import Runtime

from .http_ledger import serving
from .log_growing import grow

pytestmark = pytest.mark.postgres

DECLARATION = "lawful-ledger/declaration/1"
NOW = dt.datetime(2026, 11, 22, 5, 0, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Submitter:
    """Somebody with an API key and a registered signing key."""

    client: "TestClient[Any]"
    runtime: Runtime
    api_key: str
    issuer: str
    key: StatementKey

    def send(
        self, body: bytes, *, batch: bool = True, wait: str | None = None, name: str | None = None, **headers: str
    ) -> httpx.Response:
        if name is not None:
            headers["Idempotency-Key"] = name
        content_type = "application/cbor-seq" if batch else "application/cose"
        return self.client.post(
            "/v1/statements/batch" if batch else "/v1/statements",
            content=body,
            params={} if wait is None else {"wait": wait},
            headers={"Content-Type": content_type, "Authorization": f"Bearer {self.api_key}"} | headers,
        )

    def declared(self, number: int = 0, **changes: Any) -> bytes:
        payload = {
            "type": DECLARATION,
            "commitment": hashlib.sha256(b"%d" % number).hexdigest(),
            "created_at": NOW.isoformat(),
        } | changes
        payload = {name: value for name, value in payload.items() if value is not None}
        return sign_statement(payload, self.key, self.issuer, DECLARATION)

    def signed(self, payload: bytes, protected: bytes | None = None) -> bytes:
        """A COSE_Sign1 with a true signature over whatever payload and header."""
        if protected is None:
            tagged = cbor2.loads(self.declared())
            protected = tagged.value[0]
        signature = self.key.sign(cbor2.dumps(["Signature1", protected, b"", payload]))
        return cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))


@pytest.fixture
def submitter(runtime: Runtime) -> Iterator[Submitter]:
    with serving(runtime) as client:
        yield submitter_of(runtime, client)


def submitter_of(runtime: Runtime, client: "TestClient[Any]", name: str = "studio north") -> Submitter:
    key = StatementKey.generate()
    with runtime.sessions.begin() as session:
        principal_id = uuid.uuid4()
        session.add(Principal(id=principal_id, name=name, role="submitter", generator=None))
        session.flush()
        api_key = new_key(session, principal_id, "test")[1]
        registered = submissions.register_key(session, runtime, name, key.public_key)
        assert registered.issuer == f"submitter/{principal_id}"
    return Submitter(client, runtime, api_key, registered.issuer, key)


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json", response.text
    return response.status_code, response.json()["code"]


def waiting(runtime: Runtime) -> int:
    """How many different statements of submitters wait or stand in the log."""
    with runtime.sessions() as session:
        found = {*session.scalars(sa.select(LogOutbox.entry)), *session.scalars(sa.select(LogEntry.entry))}
    return sum(parse_statement(entry).subject == DECLARATION for entry in found)


def test_a_batch_is_in_the_log_in_its_order_and_can_be_proven(submitter: Submitter) -> None:
    statements = [submitter.declared(number) for number in range(1000)]
    answer = submitter.send(b"".join(statements), wait="integrated")
    assert answer.status_code == 201, answer.text
    placed = answer.json()["statements"]
    assert [each["leaf_hash"] for each in placed] == [hashlib.sha256(b"\0" + raw).hexdigest() for raw in statements]
    assert [each["index"] for each in placed] == list(range(placed[0]["index"], placed[0]["index"] + 1000))
    assert answer.json()["size"] > placed[-1]["index"]
    for each, raw in list(zip(placed, statements, strict=True))[::333]:
        proof = submitter.client.get(f"/v1/statements/{each['leaf_hash']}/proof")
        reading = check_tlog_proof(raw, proof.content, [submitter.runtime.keys.log.vkey])
        assert reading.index == each["index"]
        assert submitter.client.get(f"/v1/statements/{each['leaf_hash']}/receipt").status_code == 200


def test_one_statement_alone_is_taken_as_well(submitter: Submitter) -> None:
    raw = submitter.declared()
    taken = submitter.send(raw, batch=False)
    assert taken.status_code == 202
    assert taken.headers["retry-after"] == "1"
    placed = submitter.send(raw, batch=False, wait="integrated")
    assert placed.status_code == 201
    assert placed.json()["statements"][0]["leaf_hash"] == taken.json()["statements"][0]["leaf_hash"]
    assert waiting(submitter.runtime) == 1


@pytest.mark.parametrize(
    "created_at", ["2026-11-22T05:00:00Z", "2026-11-22T05:00:00.5Z", "2026-02-28T23:59:59.123456+00:00"]
)
def test_times_are_taken_as_other_languages_write_them(submitter: Submitter, created_at: str) -> None:
    assert submitter.send(submitter.declared(created_at=created_at), batch=False).status_code == 202


def test_every_fault_has_its_own_name_and_keeps_the_whole_batch_out(submitter: Submitter) -> None:
    good = [submitter.declared(number) for number in range(5)]
    other = StatementKey.generate()
    payload = cbor2.loads(good[0]).value[2]
    protected = cbor2.loads(good[0]).value[0]
    header = cbor2.loads(protected)

    def with_payload(text: str) -> bytes:
        return submitter.signed(text.encode())

    def fields(*parts: str) -> bytes:
        return with_payload("{" + ",".join(parts) + "}")

    def with_header(**changes: Any) -> bytes:
        return submitter.signed(
            payload, cbor2.dumps(header | {int(k[1:]): v for k, v in changes.items()}, canonical=True)
        )

    def as_issuer(issuer: str, subject: str = DECLARATION, key: StatementKey = submitter.key) -> bytes:
        return sign_statement(json.loads(payload), key, issuer, subject)

    time = '"created_at":"2026-11-22T05:00:00+00:00"'
    commitment = f'"commitment":"{"ab" * 32}"'
    kind = f'"type":"{DECLARATION}"'
    wrong_signature = good[0][:-1] + bytes([good[0][-1] ^ 1])
    faults: list[tuple[bytes, int, str]] = [
        (b"\xff", 400, "statement_malformed"),
        (b"not cbor", 400, "statement_malformed"),
        (b"\x00", 400, "statement_malformed"),
        (cbor2.dumps({}), 400, "statement_malformed"),
        (good[0][1:], 400, "statement_malformed"),  # untagged
        (b"\xd2\x9f" + good[0][2:] + b"\xff", 400, "statement_malformed"),  # indefinite
        (b"\xd1" + good[0][1:], 400, "statement_malformed"),  # COSE_Mac0
        (cbor2.dumps(cbor2.CBORTag(18, [protected, {4: b"kid"}, payload, bytes(64)])), 400, "statement_malformed"),
        (cbor2.dumps(cbor2.CBORTag(18, [protected, {}, None, bytes(64)])), 400, "statement_malformed"),  # detached
        (cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, bytes(63)])), 400, "statement_malformed"),
        (good[0].replace(b"\xa0\x58", b"\xa0\x59\x00", 1), 400, "statement_malformed"),  # a length the long way
        (with_header(_1=-7), 400, "statement_malformed"),  # ES256
        (with_header(_5=b"iv"), 400, "statement_malformed"),
        (submitter.signed(payload, b"\xa5" + protected[1:] + protected[1:3]), 400, "statement_duplicate_key"),
        (fields(commitment, commitment, time, kind), 400, "statement_duplicate_key"),
        (fields(commitment, '"created_at":NaN', kind), 400, "statement_not_a_number"),
        (fields(commitment, '"created_at":-Infinity', kind), 400, "statement_not_a_number"),
        (fields(f'"a":{2**53}', commitment, time, kind), 400, "statement_integer_too_large"),
        (fields(f'"a":{"9" * 5000}', commitment, time, kind), 400, "statement_integer_too_large"),
        (fields(kind, commitment, time), 400, "statement_malformed"),  # unsorted
        (with_payload("{" + ", ".join([commitment, time, kind]) + "}"), 400, "statement_malformed"),  # spaces
        (with_payload("[]"), 400, "statement_malformed"),
        (with_payload(""), 400, "statement_malformed"),
        (with_payload("[" * 20_000), 400, "statement_malformed"),
        (submitter.declared(commitment="AB" * 32), 400, "declaration_malformed"),
        (submitter.declared(commitment="ab" * 31), 400, "declaration_malformed"),
        (submitter.declared(commitment=None), 400, "declaration_malformed"),
        (submitter.declared(prompt="a boat"), 400, "declaration_malformed"),
        (submitter.declared(created_at="yesterday"), 400, "declaration_malformed"),
        (submitter.declared(created_at="2026-13-01T00:00:00Z"), 400, "declaration_malformed"),
        (submitter.declared(created_at="2026-11-22T05:00:00"), 400, "declaration_malformed"),
        (submitter.declared(created_at="2026-11-22T05:00:00+01:00"), 400, "declaration_malformed"),
        (submitter.declared(created_at="2026-11-22T05:00:00Z\n"), 400, "declaration_malformed"),
        (submitter.declared(created_at="٢٠٢٦-11-22T05:00:00Z"), 400, "declaration_malformed"),
        (submitter.declared(type="lawful-ledger/genesis/1"), 400, "declaration_malformed"),
        (wrong_signature, 400, "statement_signature_invalid"),
        (submitter.signed(payload)[:-64] + bytes(64), 400, "statement_signature_invalid"),
        (as_issuer(submitter.issuer, key=other), 403, "submitter_key_unknown"),
        (as_issuer(f"submitter/{uuid.uuid4()}"), 403, "submitter_differs"),
        (as_issuer(submitter.runtime.settings.origin), 403, "submitter_differs"),
        (as_issuer(submitter.issuer, "a name of somebody"), 403, "submitter_differs"),
        (submitter.signed(b"x" * 65_535), 413, "entry_too_large"),
        (submitter.signed(b"x" * 100_000), 413, "entry_too_large"),
    ]  # fmt: skip
    wrong = []
    for raw, status, code in faults:
        answer = submitter.send(b"".join([*good[:3], raw, *good[3:]]))
        told = answer.json()
        if (*problem(answer), *(each["field"] for each in told["errors"])) != (status, code, "statements[3]"):
            wrong.append((raw[-90:], status, code, answer.text))
        assert told["detail"].startswith("statement 3: ")
        alone = submitter.send(raw, batch=False)
        if problem(alone) != (status, code):
            wrong.append((raw[-90:], "alone", status, code, alone.text))
    assert not wrong, wrong
    assert {code for _, _, code in faults} >= {"entry_too_large", "statement_malformed", "statement_signature_invalid"}
    assert waiting(submitter.runtime) == 0, "a batch is all or nothing"


def test_a_body_that_is_no_batch_is_told_so(submitter: Submitter) -> None:
    raw = submitter.declared()
    for body, batch, expected in (
        (b"", True, (400, "batch_empty")),
        (b"", False, (400, "batch_empty")),
        (raw + b"\x00", True, (400, "statement_malformed")),
        (raw + raw[:20], True, (400, "statement_malformed")),
        (raw + raw[:-1], True, (400, "statement_malformed")),
        (raw[:-1], False, (400, "statement_malformed")),
        (raw + b"\x00", False, (400, "statement_malformed")),
        (raw + raw, False, (400, "statement_malformed")),
        (b"".join(submitter.declared(number) for number in range(1001)), True, (413, "batch_too_large")),
        (bytes(4 * 2**20 + 1), True, (413, "body_too_large")),
        (bytes(2**20 + 1), False, (413, "body_too_large")),
    ):
        assert problem(submitter.send(body, batch=batch)) == expected, (len(body), batch)
    trailing = submitter.send(raw + b"\x00").json()
    assert trailing["errors"][0]["field"] == "statements[1]"
    assert waiting(submitter.runtime) == 0


def test_the_content_type_has_to_be_the_routes_own(submitter: Submitter) -> None:
    raw = submitter.declared()
    for batch, content_type in ((True, "application/cose"), (False, "application/cbor-seq"), (True, "text/plain")):
        answer = submitter.send(raw, batch=batch, **{"Content-Type": content_type})
        assert problem(answer) == (415, "media_type_unsupported")
    assert (
        submitter.send(raw, batch=False, **{"Content-Type": 'Application/COSE; cose-type="cose-sign1"'}).status_code
        == 202
    )


def test_a_batch_sent_again_under_its_key_is_the_same_batch(submitter: Submitter) -> None:
    body = b"".join(submitter.declared(number) for number in range(20))
    first = submitter.send(body, name="batch 1", wait="integrated")
    again = submitter.send(body, name="batch 1", wait="integrated")
    assert first.status_code == again.status_code == 201
    assert first.json()["statements"] == again.json()["statements"]
    other = submitter.send(submitter.declared(77), name="batch 1")
    assert problem(other) == (409, "idempotency_key_reused")
    assert problem(submitter.send(submitter.declared(77), name="x" * 201)) == (400, "idempotency_key_too_long")
    assert waiting(submitter.runtime) == 20
    assert submitter.send(submitter.declared(77), name="batch 2").status_code == 202


def test_a_refused_batch_leaves_its_key_free(submitter: Submitter) -> None:
    assert problem(submitter.send(b"\xff", name="batch 1")) == (400, "statement_malformed")
    assert submitter.send(submitter.declared(), name="batch 1").status_code == 202


def test_keys_of_two_submitters_do_not_meet(submitter: Submitter) -> None:
    other = submitter_of(submitter.runtime, submitter.client, "studio south")
    assert problem(other.send(submitter.declared())) == (403, "submitter_key_unknown")
    assert submitter.send(submitter.declared(), name="same").status_code == 202
    assert other.send(other.declared(), name="same").status_code == 202
    assert problem(submitter.send(submitter.declared(), Authorization="Bearer lawful_nobody"))[0] == 401


def test_without_a_sequencer_the_statements_are_kept_and_the_answer_says_so(quiet: Runtime) -> None:
    runtime = replace(quiet, settings=quiet.settings.model_copy(update={"issue_timeout": 0.2}))
    with serving(runtime) as client:
        submitter = submitter_of(runtime, client)
        body = submitter.declared(1) + submitter.declared(2)
        late = submitter.send(body, wait="integrated")
        assert late.status_code == 202
        assert late.json()["size"] is None
        grow(runtime, 0)
        assert submitter.send(body, wait="integrated").status_code == 201
        assert submitter.send(body, wait="witnessed").status_code == 202


def test_a_registered_key_is_announced_and_a_revoked_one_counts_no_more(submitter: Submitter) -> None:
    runtime, kid = submitter.runtime, submitter.key.kid
    with runtime.sessions.begin() as session:
        again = submissions.register_key(session, runtime, "studio north", submitter.key.public_key)
        assert again.announced is None
        with pytest.raises(NotFound):
            submissions.register_key(session, runtime, "nobody", b"\x02" * 32)
        revoked = submissions.revoke_key(session, runtime, kid)
        assert revoked is not None
        assert submissions.revoke_key(session, runtime, kid) is None
        with pytest.raises(Conflict) as refused:
            submissions.register_key(session, runtime, "studio north", submitter.key.public_key)
        assert refused.value.code == "submitter_key_taken"
        entry = session.scalars(sa.select(SubmitterKey)).one()
        statements = [parse_statement(raw) for raw in session.scalars(sa.select(LogOutbox.entry))]
        statements += [parse_statement(raw) for raw in session.scalars(sa.select(LogEntry.entry))]
    assert problem(submitter.send(submitter.declared())) == (403, "submitter_key_revoked")
    said = {each.payload["type"]: each for each in statements}
    announced = said["lawful-ledger/submitter-key/1"]
    verify_statement(announced.raw, runtime.keys.statements.public_key)
    assert announced.payload["kid"] == kid.hex() == entry.kid.hex()
    assert announced.payload["ed25519"] == submitter.key.public_key.hex()
    assert f"submitter/{announced.payload['submitter']}" == submitter.issuer
    assert "studio" not in json.dumps([each.payload for each in statements]), "no name enters the log"
    assert said["lawful-ledger/submitter-key-revoked/1"].payload["kid"] == kid.hex()


def test_keys_are_registered_and_revoked_on_the_command_line(runtime: Runtime) -> None:
    url, owner = runtime.settings.database_url, runtime.settings.database_owner_url
    assert url is not None
    assert owner is not None
    environment = {
        "LAWFUL_HOME": str(runtime.settings.home),
        "LAWFUL_DATABASE_URL": url.get_secret_value(),
        "LAWFUL_DATABASE_OWNER_URL": owner.get_secret_value(),
    }

    def lawful(*arguments: str) -> dict[str, Any]:
        result = CliRunner().invoke(main, [*arguments, "--json"], env=environment)
        return {"exit": result.exit_code} | json.loads(result.stdout)

    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert lawful("keys", "register", "studio", key.hex())["error"]["code"] == "submitter_unknown"
    lawful("keys", "api", "studio")
    registered = lawful("keys", "register", "studio", key.hex())
    assert registered["exit"] == 0
    assert registered["kid"] == hashlib.sha256(key).hexdigest()
    assert registered["new"]
    assert not lawful("keys", "register", "studio", key.hex())["new"]
    assert lawful("keys", "register", "studio", key.hex()[1:])["error"]["code"] == "submitter_key_malformed"
    assert lawful("keys", "revoke", registered["kid"])["new"]
    assert lawful("keys", "revoke", "00" * 32)["error"]["code"] == "submitter_key_missing"
    with runtime.sessions() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Submission)) == 0
