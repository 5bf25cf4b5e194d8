"""What stands in the log for ever names nobody: every type of statement, by its description and by real entries.

Three nets: nothing is signed but through the descriptions; a description has only kinds of value that are harmless, and
each unsalted digest in it gives its reason here; and a ledger in which everything was done with telling words and
digests has entries that hold none of them.
"""

import ast
import base64
import dataclasses
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from msgspec import inspect

import ledger
from attribution.evidence import Evidence, Identity, Match
from attribution.fingerprints import fingerprint
from attribution.gate import GatePolicy, decide
from ledger import api_keys, erasure, grants, issue, submissions, training_sets
from ledger.abandonment import abandon
from ledger.claims import replies
from ledger.database.tables.log import LogEntry, LogOutbox
from ledger.database.tables.records import Record, Report
from ledger.database.tables.works import Work
from ledger.errors import Conflict
from ledger.log import statement_types
from ledger.log.declarations import DECLARATION, issuer_of
from ledger.log.statement_types import PIXELS_DOMAIN, TYPES, Described, describe, sign_entry
from ledger.log.statements import StatementError, StatementKey, commitment, parse_statement, sign_statement
from ledger.runtime import Runtime

from .claiming import claimed, settled, somebody
from .conftest import picture
from .http_ledger import do, looked, operator, png
from .test_catalog import folder_of_works, run
from .test_issue import accept, produced

pytestmark = pytest.mark.postgres

NAME = "Johanna Nachname"
PROMPT = f"a portrait of {NAME}"

KINDS = {
    "commitment", "public digest", "leaf hash", "public key", "index", "count", "time", "row id", "manifest urn",
    "code", "rate", "operator's text", "operator's document",
}  # fmt: skip

PUBLIC = {
    "AnnouncedKey.kid": "of a key that the same entry gives",
    "RetiredKey.kid": "of a key that an earlier entry gave",
    "SubmitterKey.kid": "of a key that the same entry gives",
    "SubmitterKeyRevoked.kid": "of a key that an earlier entry gave",
    "WitnessPolicy.sha256": "of a policy that is published",
    "Network.weights_sha256": "of a network's weights, which are no person's",
    "Record.snapshot": "over all works of a collection together; names and titles do not enter it",
    "Blocked.snapshot": "over all works of a collection together; names and titles do not enter it",
    "Trained.snapshot": "over all works of a collection together; names and titles do not enter it",
    "Trained.digest": "over all works that a generator learned from, a list that is published with its weights",
    "Snapshot.digest": "over all works of a collection together; names and titles do not enter it",
    "ClaimExamined.snapshot": "over all works of a collection together, as in its own entry",
    "Snapshot.calibration": "over scores of all works together, and what was fitted to them",
}
"""Digests that are not salted, and why nothing erasable is behind them. A new one needs its reason here."""


# ---- descriptions ----------------------------------------------------------------------------------------------------


def fields(described: type[Any]) -> Iterator[tuple[str, inspect.Type]]:
    """(owner.field, type) of every value in a description, down to its parts."""
    info = inspect.type_info(described)
    assert isinstance(info, inspect.StructType)
    assert info.forbid_unknown_fields
    for each in info.fields:
        yield from _values(f"{described.__name__}.{each.encode_name}", each.type)


def _values(path: str, kind: inspect.Type) -> Iterator[tuple[str, inspect.Type]]:
    match kind:
        case inspect.StructType():
            yield from fields(kind.cls)
        case inspect.ListType(item_type=item):
            yield from _values(path, item)
        case inspect.DictType(key_type=key, value_type=value):
            yield from _values(path, key)
            yield from _values(path, value)
        case inspect.UnionType(types=types):
            for each in types:
                yield from _values(path, each)
        case _:
            yield path, kind


def title(kind: inspect.Type) -> str | None:
    return (kind.extra_json_schema or {}).get("title") if isinstance(kind, inspect.Metadata) else None


def test_every_described_type_is_in_the_list() -> None:
    assert set(TYPES) == set(Described.__subclasses__())
    tags = [each.__struct_config__.tag for each in TYPES]
    assert len(set(tags)) == len(tags)


@pytest.mark.parametrize("described", TYPES, ids=lambda each: each.__name__)
def test_a_description_has_only_kinds_of_value_that_name_nobody(described: type[Described]) -> None:
    for path, kind in fields(described):
        named = title(kind)
        if isinstance(kind, inspect.LiteralType | inspect.BoolType | inspect.NoneType):
            continue
        assert named in KINDS, f"{path}: not one of the kinds of value that an entry may hold"
        if named == "public digest":
            assert path in PUBLIC, f"{path}: an unsalted digest; say in PUBLIC why nothing erasable is behind it"


def test_nothing_in_this_package_signs_a_statement_but_through_the_descriptions() -> None:
    """And what signs with another function than that, such as a test's own, is not this package."""
    folder = Path(next(iter(ledger.__path__)))
    callers = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name | ast.Attribute)
        and (node.id if isinstance(node, ast.Name) else node.attr) == "sign_statement"
    }
    assert callers == {"log/statement_types.py"}


def test_what_is_not_described_is_not_signed() -> None:
    key = StatementKey.generate()
    leaf = "0" * 64
    good = {"type": "lawful-ledger/abandoned/1", "record_id": str(uuid.uuid4()), "leaf": leaf, "reason": "disk_full"}
    sign_entry(good, key, issuer="example.org/l/2026")
    for payload in (
        {**good, "type": "lawful-ledger/diary/1"},
        {**good, "artist": NAME},
        {**good, "reason": f"{NAME} asked for it"},
        {**good, "record_id": NAME},
        {**good, "leaf": None},
        {key: value for key, value in good.items() if key != "leaf"},
    ):
        with pytest.raises(StatementError) as refusal:
            sign_entry(payload, key, issuer="example.org/l/2026")
        assert refusal.value.code == "statement_undescribed"
        assert NAME not in refusal.value.detail


# ---- real entries ----------------------------------------------------------------------------------------------------


def everything_done(runtime: Runtime, folder: Path) -> dict[str, bytes]:
    """A ledger in which each use case that writes an entry has run; what → digest of erasable content."""
    files = folder_of_works(folder / "works", artists=1, works=2)
    (files / "artist 0").rename(files / NAME)
    (files / NAME / "0.png").rename(files / NAME / f"{NAME} at the window.png")
    indexed = run(runtime, files, name=f"{NAME}'s works")
    with runtime.sessions() as session:
        work, shown = session.scalars(sa.select(Work).order_by(Work.id)).all()[:2]
    grants.change_grants(runtime, [work.id], {"name": False}, by_role="artist")

    model = {"name": "drawer", "revision": "1", "weights_sha256": "ab" * 32, "licence": "none"}
    training_sets.declare(runtime, model, [work.pixel_sha256.hex(), "ff" * 32], indexed.snapshot or "")
    generation = accept(runtime, PROMPT, key=NAME)
    issue.sign(runtime, generation, produced())
    issue.finish(runtime, generation)
    with runtime.sessions.begin() as session:
        stamp = issue.accept_stamp(
            session,
            runtime,
            principal_id=operator(runtime),
            image=png(3),
            media_type="image/png",
            declared_model=f"{NAME}'s model",
            prompt=PROMPT,
            prompt_commitment=None,
            idempotency_key=None,
        )
    do(runtime, stamp, produced().evidence)
    given_up = accept(runtime, PROMPT)
    issue.sign(runtime, given_up, produced(4))
    abandon(runtime, given_up, {"code": "disk_full", "detail": NAME, "next_step": NAME, "status": 507})
    blocked = accept(runtime, PROMPT)
    with pytest.raises(Conflict):
        issue.sign(runtime, blocked, a_known_work())
    look = looked(runtime, png(3))
    claims_settled(runtime, stamp, shown.id)

    key = StatementKey.generate()
    with runtime.sessions.begin() as session:
        key_id, api_key = api_keys.make(session, runtime, NAME, "submitter", f"for {NAME}")
        submissions.register_key(session, runtime, NAME, key.public_key)
        submitter = api_keys.principal_of(session, api_key)
        assert submitter is not None
        declared = {"type": DECLARATION, "commitment": "ab" * 32, "created_at": runtime.clock().isoformat()}
        statement = sign_statement(declared, key, issuer_of(submitter.id), DECLARATION)
        submissions.take(session, submitter.id, [statement], idempotency_key=NAME, body=statement)
        submissions.revoke_key(session, runtime, key.kid)
        api_keys.revoke(session, runtime, key_id)

    digests = {
        "prompt": hashlib.sha256(PROMPT.encode()).digest(),
        "name": hashlib.sha256(NAME.encode()).digest(),
        "pixels of a work": work.pixel_sha256,
        "file of a work": work.file_sha256,
        "pixels of a look": bytes.fromhex(fingerprint(png(3), picture(3)).pixel_sha256),
    }
    with runtime.sessions() as session:
        for record in session.scalars(sa.select(Record)):
            for column in (*erasure.EMPTIED, "idempotency_key"):
                value = getattr(record, column)
                if isinstance(value, bytes):
                    digests[f"{column} of {record.kind} {record.id}"] = value
        for report in session.scalars(sa.select(Report)):
            digests[f"report of {report.record_id}"] = report.sha256
    for record_id in (generation, blocked, look):
        erasure.erase(runtime, record_id, reason="ordered", asked_by="court")
    return digests


def a_known_work() -> issue.Produced:
    """An image that the gate blocks, since it is a work that is credited by name."""
    work = Match(work_id="w", artist_id="a", artist=NAME, title=f"{NAME} at the window", by="file_sha256")
    evidence = Evidence(statement=f"It is by {NAME}.", identity=Identity(works=[work]))
    gate = decide(evidence, refused=True, policy=GatePolicy(identity="block"))
    return dataclasses.replace(produced(5), evidence=msgspec.structs.replace(evidence, gate=gate))


def claims_settled(runtime: Runtime, record: uuid.UUID, work: uuid.UUID) -> None:
    """A claim that goes all the way, and one that is withdrawn."""
    person = somebody(runtime, f"{NAME.replace(' ', '.')}@example.org")
    said = {"claimant": NAME, "words": f"my {PROMPT}"}
    claim = claimed(runtime, person, about=record, work_id=work, **said)
    settled(runtime, claim)
    withdrawn = claimed(runtime, person, about=record, work=png(5), **said)
    with runtime.sessions.begin() as session:
        replies.answer(session, runtime, claim, "operator", f"{NAME} agreed")
        replies.appeal(session, runtime, claim, "claimant", f"{NAME} did not")
        replies.withdraw(session, runtime, withdrawn)
    settled(runtime, claim)
    with runtime.sessions.begin() as session:
        replies.close(session, runtime, claim, "operator")


def payloads(runtime: Runtime) -> list[Mapping[str, Any]]:
    with runtime.sessions() as session:
        both = sa.union(sa.select(LogEntry.entry), sa.select(LogOutbox.entry))
        return [parse_statement(entry).payload for entry in session.scalars(both)]


def test_no_entry_of_a_busy_ledger_holds_a_persons_words_or_an_unsalted_digest(
    runtime: Runtime, tmp_path: Path
) -> None:
    digests = everything_done(runtime, tmp_path)
    written = payloads(runtime)
    assert {type(describe(payload)) for payload in written} >= set(TYPES) - ELSEWHERE
    for payload in written:
        text = json.dumps(payload, ensure_ascii=False)
        for word in (NAME, NAME.split(maxsplit=1)[0], "portrait", "window"):
            assert word not in text, f"{payload['type']} holds a person's words"
        for what, digest in digests.items():
            spellings = (digest.hex(), base64.b64encode(digest).decode(), base64.urlsafe_b64encode(digest).decode())
            assert not any(spelling in text for spelling in spellings), f"{payload['type']} holds the {what}"


ELSEWHERE = {
    statement_types.WitnessPolicy,
    statement_types.Override,
    statement_types.Keys,
    statement_types.ArtistLinked,
}
"""Written by operators alone, about witnesses, keys and who acts for whom; their own tests run them."""


def test_what_an_entry_commits_to_opens_with_the_rows_salt_and_with_no_other(runtime: Runtime) -> None:
    """So that the salt's deletion is what closes it: no other row or entry leads to the digest."""
    record_id = accept(runtime, PROMPT)
    issue.sign(runtime, record_id, produced())
    issue.finish(runtime, record_id)
    with runtime.sessions() as session:
        record = session.get_one(Record, record_id)
        report = session.get_one(Report, record_id).sha256
    assert record.salt is not None
    assert record.issued_statement is not None
    of_record = parse_statement(bytes(record.statement or b"")).payload["commitments"]
    of_file = parse_statement(record.issued_statement).payload["commitments"]
    opened = {
        (PIXELS_DOMAIN, of_record["pixels"]): record.pixel_sha256,
        (issue.REPORT_DOMAIN, of_record["report"]): report,
        (issue.FILE_DOMAIN, of_file["file"]): record.file_sha256,
        (issue.CLAIM_DOMAIN, of_file["claim"]): record.claim_sha256,
    }
    for (domain, committed), digest in opened.items():
        assert digest is not None
        assert commitment(domain, record.salt, digest).hex() == committed
        assert commitment(domain, bytes(32), digest).hex() != committed
        assert hashlib.sha256(digest).hexdigest() != committed
    second = accept(runtime, PROMPT)
    issue.sign(runtime, second, produced())
    with runtime.sessions() as session:
        again = session.get_one(Record, second)
    assert again.salt != record.salt
    assert parse_statement(bytes(again.statement or b"")).payload["commitments"]["pixels"] != of_record["pixels"]
