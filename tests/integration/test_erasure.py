"""Erasure: what is gone, where it was looked for, what stays provable, and what whoever asks is told afterwards."""

import base64
import datetime as dt
import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from PIL import Image

from attribution.fingerprints import fingerprint
from ledger import erasure, issue, lookup, verifications
from ledger.abandonment import abandon
from ledger.database.tables.records import Generation, Record, Stamp
from ledger.errors import Conflict, NotFound
from ledger.log import entries
from ledger.log.statements import parse_statement
from ledger.log.verify import check_tlog_proof
from ledger.runtime import Runtime
from ledger.sweep import GRACE, sweep
from ledger.tampering import change_one_pixel
from models.images import decode, encode_png

from .conftest import picture
from .http_ledger import do, looked, operator, png, serving, stamped
from .test_issue import accept, produced

pytestmark = pytest.mark.postgres

NAME = "Johanna Nachname"
PROMPT = f"a portrait of {NAME} at the window"
ERASING = {"reason": "requested", "asked_by": "depicted person"}


@dataclass
class Needle:
    """Something that must not be found again, in every spelling it could have."""

    what: str
    spellings: list[bytes]

    @classmethod
    def text(cls, what: str, text: str) -> "Needle":
        return cls(what, [text.encode(), base64.b64encode(text.encode())])

    @classmethod
    def digest(cls, what: str, digest: bytes) -> "Needle":
        plain, for_urls = base64.b64encode(digest).rstrip(b"="), base64.urlsafe_b64encode(digest).rstrip(b"=")
        return cls(what, [digest, digest.hex().encode(), digest.hex().upper().encode(), plain, for_urls])


def everything(runtime: Runtime) -> Iterator[tuple[str, bytes]]:
    """(where, bytes) of every value of every table, the queue's and the log's among them, and of every stored file and
    its name. Not the database's write-ahead log, nor rows that are dead and not yet vacuumed."""
    with runtime.sessions() as session:
        tables = session.scalars(
            sa.text(
                "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables"
                " WHERE table_schema NOT IN ('pg_catalog', 'information_schema') AND table_type = 'BASE TABLE'"
            )
        ).all()
        assert {"public.records", "public.log_entries", "public.procrastinate_jobs"} <= set(tables)
        for table in tables:
            for row in session.execute(sa.text(f"SELECT * FROM {table}")).mappings():
                for column, value in row.items():
                    yield f"{table}.{column}", _bytes(value)
    for path in runtime.settings.files_folder.rglob("*"):
        yield "a file's name", os.fsencode(path)
        if path.is_file():
            yield path.name, path.read_bytes()


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    return json.dumps(value, ensure_ascii=False, default=str).encode()


def found(runtime: Runtime, needles: list[Needle]) -> dict[str, set[str]]:
    """What → where it lies."""
    places: dict[str, set[str]] = {}
    for where, data in everything(runtime):
        for needle in needles:
            if any(spelling in data for spelling in needle.spellings):
                places.setdefault(needle.what, set()).add(where)
    return places


def needles_of(runtime: Runtime, record_id: uuid.UUID) -> list[Needle]:
    """All that identifies the record's content, taken from its rows while they still have it."""
    with runtime.sessions() as session:
        record = session.get_one(Record, record_id)
        made = session.get(Generation, record_id) or session.get_one(Stamp, record_id)
        assert made.prompt is not None
        assert made.prompt_salt is not None
        report = hashlib.sha256(lookup.report(session, record_id)).digest()
        digests = {
            "file digest": record.file_sha256,
            "pixel digest": record.pixel_sha256,
            "claim digest": record.claim_sha256,
            "report digest": report,
            "salt": record.salt,
            "prompt's salt": made.prompt_salt,
            "prompt's digest": hashlib.sha256(made.prompt.encode()).digest(),
            "digest of the file handed in": record.submitted_sha256,
            "request's digest": record.request_sha256,
        }
        texts = {"prompt": made.prompt, "name": NAME, "ISCC": record.iscc, "ISCC of the file": record.iscc_instance}
        bits = {"ISCC's bits": record.iscc_bits, "PDQ's bits": record.pdq}
    return [
        *(Needle.digest(what, digest) for what, digest in digests.items() if digest is not None),
        *(Needle.text(what, text) for what, text in (texts | bits).items() if text is not None),
    ]


def personal_generation(runtime: Runtime, seed: int = 1) -> uuid.UUID:
    record_id = accept(runtime, PROMPT, key=f"{NAME}, first try")
    issue.sign(runtime, record_id, produced(seed))
    issue.finish(runtime, record_id)
    return record_id


def personal_stamp(runtime: Runtime, seed: int = 1) -> uuid.UUID:
    with runtime.sessions.begin() as session:
        record_id = issue.accept_stamp(
            session,
            runtime,
            principal_id=operator(runtime),
            image=png(seed),
            media_type="image/png",
            declared_model=f"a model trained on {NAME}",
            prompt=PROMPT,
            prompt_commitment=None,
            idempotency_key=f"{NAME}, stamped",
        )
    do(runtime, record_id, produced().evidence)
    return record_id


def file_of(runtime: Runtime, record_id: uuid.UUID) -> bytes:
    with runtime.sessions() as session:
        return runtime.storage.get(lookup.file_key(session, record_id)[0])


def jpeg(data: bytes) -> bytes:
    out = io.BytesIO()
    Image.fromarray(decode(data).pixels).save(out, "JPEG", quality=70)
    return out.getvalue()


@pytest.mark.parametrize("make", [personal_generation, personal_stamp])
def test_after_an_erasure_nothing_of_it_is_found_in_database_queue_storage_or_log(runtime: Runtime, make) -> None:  # type: ignore[no-untyped-def]
    record_id = make(runtime)
    data = file_of(runtime, record_id)
    for copy in (data, png(1), change_one_pixel(data), jpeg(data)):  # what looks were told holds digests as well
        looked(runtime, copy)
    needles = needles_of(runtime, record_id)
    before = found(runtime, needles)
    never_stored = {"prompt's digest"}
    assert before.keys() == {each.what for each in needles} - never_stored, "what is not found now proves nothing later"
    assert {"public.generations.prompt", "public.stamps.prompt"} & before["prompt"]
    assert "public.verifications.result" in before["pixel digest"]
    assert "a file's name" in before["file digest"]
    assert "public.records.idempotency_key" in before["name"]
    erasure.erase(runtime, record_id, **ERASING)
    assert found(runtime, needles) == {}


def test_the_tree_stays_verifiable_and_the_redaction_names_index_reason_and_role(runtime: Runtime) -> None:
    record_id = personal_generation(runtime)
    with runtime.sessions() as session:
        record = session.get_one(Record, record_id)
        entry, leaf = record.statement, record.leaf_hash
    assert entry is not None
    assert leaf is not None
    done = erasure.erase(runtime, record_id, **ERASING)
    assert done.leaf_hash is not None
    place = entries.wait(runtime.sessions, runtime.shard, done.leaf_hash, 30)
    with runtime.sessions() as session:
        proof = entries.proof(session, runtime.shard, leaf)
        redaction = entries.proof_by_index(session, runtime.shard, place.index)
        view = lookup.by_index(session, runtime.shard, place.index)
    reading = check_tlog_proof(entry, proof, [runtime.keys.log.vkey])
    assert (reading.inclusion, reading.log_key, reading.index) == (True, "trusted", done.index)
    assert view.payload == {
        "type": "lawful-ledger/erased/1",
        "origin": runtime.settings.origin,
        "index": done.index,
        "leaf": leaf.hex(),
        "reason": "requested",
        "asked_by": "depicted person",
        "created_at": view.payload["created_at"],  # type: ignore[index]
    }
    assert redaction.startswith(b"c2sp.org/tlog-proof")


def test_an_index_is_answered_redacted_and_never_unknown(runtime: Runtime) -> None:
    record_id = personal_generation(runtime)
    look = looked(runtime, file_of(runtime, record_id))
    with runtime.sessions() as session:
        record = session.get_one(Record, record_id)
        leaves = [record.leaf_hash, record.issued_leaf, session.get_one(Record, look).leaf_hash]
    places = [entries.wait(runtime.sessions, runtime.shard, leaf, 30).index for leaf in leaves if leaf is not None]

    def answers() -> list[str]:
        with runtime.sessions() as session:
            return [lookup.by_index(session, runtime.shard, index).answer for index in places]

    assert answers() == ["recorded"] * 3
    done = erasure.erase(runtime, record_id, **ERASING)
    assert done.leaf_hash is not None
    redaction = entries.wait(runtime.sessions, runtime.shard, done.leaf_hash, 30).index
    assert answers() == ["redacted"] * 3
    with runtime.sessions() as session:
        found_record, _, found_look = (lookup.by_index(session, runtime.shard, index) for index in places)
        assert found_record.payload is None
        assert found_record.record_id == str(record_id)
        assert found_record.redaction is not None
        assert (found_record.redaction.index, found_record.redaction.reason, found_record.redaction.asked_by) == (
            redaction, "requested", "depicted person",
        )  # fmt: skip
        assert (found_look.record_id, found_look.redaction) == (None, None)  # who looked at what stays private
        with pytest.raises(NotFound) as refusal:
            lookup.by_index(session, runtime.shard, redaction + 1000)
        assert refusal.value.code == "entry_unknown"
    with serving(runtime) as client:
        answer = client.get(f"/v1/log/entries/{places[0]}").json()
        assert (answer["answer"], answer["redaction"]["index"]) == ("redacted", redaction)
        assert client.get("/v1/log/entries/0").json()["type"] == "lawful-ledger/genesis/1"
        assert client.get(f"/v1/log/entries/{10**25}").status_code == 404


def test_a_look_that_was_told_of_the_record_as_a_candidate_keeps_its_answer_without_the_record(
    runtime: Runtime,
) -> None:
    record_id = personal_stamp(runtime)
    other = stamped(runtime, jpeg(png(1)))
    look = looked(runtime, encode_png(decode(jpeg(file_of(runtime, record_id))).pixels))
    same = looked(runtime, png(1))
    erasure.erase(runtime, record_id, **ERASING)
    with runtime.sessions() as session:
        told = verifications.result(session, look)
        assert told is not None
        candidates = {each["record"]["id"]: each["record"] for each in told["candidates"]}
        records = {each["id"] for each in told["records"]}
        assert str(other) in candidates.keys() | records
        assert candidates[str(record_id)]["redacted"] is True
        assert candidates[str(record_id)]["made"] is None
        with pytest.raises(NotFound) as refusal:
            verifications.result(session, same)
        assert refusal.value.code == "record_redacted"


def test_a_client_that_tries_again_does_not_bring_back_what_was_deleted(runtime: Runtime) -> None:
    record_id = personal_generation(runtime)
    assert accept(runtime, PROMPT, key=f"{NAME}, first try") == record_id
    erasure.erase(runtime, record_id, **ERASING)
    for prompt in (PROMPT, "another prompt"):
        with pytest.raises(NotFound) as refusal:
            accept(runtime, prompt, key=f"{NAME}, first try")
        assert refusal.value.code == "record_redacted"
    assert accept(runtime, PROMPT, key="another key") != record_id


def test_a_record_in_the_making_is_not_erased_and_an_abandoned_one_is(runtime: Runtime) -> None:
    record_id = accept(runtime, PROMPT, key=NAME)
    with pytest.raises(Conflict) as refusal:
        erasure.erase(runtime, record_id, **ERASING)
    assert refusal.value.code == "record_unfinished"
    failure = {"code": "prompt_refused", "detail": f"cannot draw {NAME}", "next_step": "-", "status": 400}
    abandon(runtime, record_id, failure)
    assert found(runtime, [Needle.text("name", NAME)])
    assert erasure.erase(runtime, record_id, **ERASING) == erasure.Erasure(None, None)
    assert found(runtime, [Needle.text("name", NAME)]) == {}


def test_another_record_of_the_same_pixels_stands(runtime: Runtime) -> None:
    first, second = personal_generation(runtime), stamped(runtime, png(1))
    erasure.erase(runtime, first, **ERASING)
    with runtime.sessions() as session:
        assert lookup.by_id(session, second).pixel_sha256 == fingerprint(png(1), picture(1)).pixel_sha256


# ---- what no row names -----------------------------------------------------------------------------------------------


def aged(runtime: Runtime, key: str) -> Path:
    """A stored file that was written longer ago than the grace period."""
    path = runtime.settings.files_folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(b"left behind")
    long_ago = (runtime.clock() - GRACE - dt.timedelta(hours=1)).timestamp()
    os.utime(path, (long_ago, long_ago))
    return path


def test_files_that_no_row_names_are_swept_after_their_grace_and_no_others(runtime: Runtime) -> None:
    record_id = personal_generation(runtime)
    waiting = accept(runtime, "still waiting")
    with runtime.sessions() as session:
        kept = [aged(runtime, lookup.file_key(session, record_id)[0])]
    look = looked(runtime, png(5))
    kept += [aged(runtime, f"sources/{waiting}"), aged(runtime, "notes/of the operator.txt")]
    orphans = [
        aged(runtime, f"sources/{uuid.uuid4()}"),
        aged(runtime, f"sources/{record_id}"),
        aged(runtime, f"uploads/{look}"),
        aged(runtime, f"uploads/{uuid.uuid4()}"),
        aged(runtime, f"files/{'ab' * 32}.png"),
        aged(runtime, f"sources/{waiting}#1"),  # what a process that died in the middle of writing leaves
    ]
    fresh = runtime.settings.files_folder / f"files/{'cd' * 32}.png"
    fresh.write_bytes(b"its row is on its way")
    assert sweep(runtime) == len(orphans)
    assert not any(path.exists() for path in orphans)
    assert all(path.exists() for path in [*kept, fresh])
    assert sweep(runtime) == 0


def test_an_erasure_that_died_before_its_file_went_is_finished_by_the_sweep(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_id = personal_generation(runtime)
    needles = needles_of(runtime, record_id)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(erasure, "delete_file", dies)
        with pytest.raises(KeyboardInterrupt):
            erasure.erase(runtime, record_id, **ERASING)
    assert found(runtime, needles).keys() >= {"file digest"}
    assert sweep(runtime) == 1
    assert found(runtime, needles) == {}


def test_the_entry_of_an_erased_record_still_parses_and_names_nobody(runtime: Runtime) -> None:
    record_id = personal_stamp(runtime)
    erasure.erase(runtime, record_id, **ERASING)
    with runtime.sessions() as session:
        statement = session.get_one(Record, record_id).statement
    assert statement is not None
    assert NAME not in json.dumps(parse_statement(statement).payload)
