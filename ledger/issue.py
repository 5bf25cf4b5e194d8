"""From an accepted request to a visible record, in four steps that survive the death of the process between any two.

    accepted ──1 sign──▶ signed ──2 integrate, 3 write──▶ sealed ──4 publish──▶ issued
        └──────────────────┴──▶ abandoned (`ledger.abandonment`)

1. The statement is built and signed once and stored in the same transaction that hands it to the log.
2. The log integrates it, and where `issue_wait` says so its witnesses sign; the inclusion proof is in hand.
3. The credential (statement, salt, proof, the proved announcements of the keys that sign) is written into the file; the
   file is durable under the sha256 of its bytes.
4. The "issued" entry (file, claim, manifest) goes to the log in the transaction that names the file. Once the log has
   it the record becomes visible.

A retry continues from the stored state, so nothing is signed twice, and nothing is served before step 4 has committed.
Bytes written in step 3 by a process that died are never named by a row; the retry writes its own.
"""

import datetime as dt
import hashlib
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa
from cryptography.hazmat.primitives import hashes
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from attribution.evidence import Evidence
from attribution.fingerprints import Fingerprints, bits, instance_code, iscc_bits
from ledger import crediting, jobs, requests
from ledger.abandonment import locked, refuse_blocked
from ledger.artists import webhooks
from ledger.credentials.labels import labelled
from ledger.credentials.write import write_credential
from ledger.database.tables.records import Generation, Picture, Record, Stamp
from ledger.errors import Inconsistent
from ledger.log import entries, sequencer
from ledger.log.statement_types import PIXELS_DOMAIN, sign_entry
from ledger.log.statements import commitment, parse_statement
from ledger.lookup import PDQ_QUALITY
from ledger.reports.announced import announcements
from ledger.reports.build import build_report, credential_request
from ledger.runtime import Runtime
from models.images import pixel_sha256

RECORD = "lawful-ledger/record/1"
ISSUED = "lawful-ledger/issued/1"

REPORT_DOMAIN = "lawful-ledger/report/1"
FILE_DOMAIN = "lawful-ledger/file/1"
CLAIM_DOMAIN = "lawful-ledger/claim/1"

TASKS: Mapping[str, jobs.Task] = {"generation": "generate", "stamp": "stamp", "verification": "verify"}

Step = Callable[[str], None]


def _unwatched(step: str) -> None:
    """Tests pass a function here that kills the process."""


@dataclass(frozen=True)
class Produced:
    """What the heavy floors made of a request: an encoded image without our credential, and what is known of it."""

    image: bytes
    media_type: str
    fingerprints: Fingerprints
    evidence: Evidence
    model: Mapping[str, str] | None = None  # NetworkInfo of our generator, where that is what made these pixels
    parameters: Mapping[str, Any] | None = None  # of a generation: what it was really called with
    unknown_words: Sequence[str] = ()  # of its prompt: what the generator never learned
    ai_origin: bool = False  # of a stamp: our own pixels, or a submitter registered to the generator they name
    parent_manifest_urn: str | None = None  # of a stamp: the credential that the image brought
    pictures: Mapping[str, bytes] = field(
        default_factory=dict
    )  # drawings that the evidence names: SHA-256 in hex → PNG


def accept_generation(
    session: Session,
    *,
    principal_id: uuid.UUID,
    prompt: str,
    seed: int | None,
    parameters: Mapping[str, Any],
    idempotency_key: str | None,
    max_prompt_chars: int,
) -> uuid.UUID:
    """Record the wish for an image and enqueue it, in the caller's transaction; or find the same wish of before."""
    requests.check_prompt(prompt, max_prompt_chars)
    requests.check_seed(seed)
    request = {"prompt": prompt, "seed": seed, **{k: v for k, v in parameters.items() if v is not None}}
    record_id, is_new = requests.record_of(session, "generation", principal_id, idempotency_key, request)
    if is_new:
        jobs.require_room(session, "generate")
        session.add(
            Generation(
                record_id=record_id,
                prompt=prompt,
                prompt_salt=secrets.token_bytes(32),
                seed=secrets.randbits(32) if seed is None else seed,
                parameters={k: v for k, v in parameters.items() if v is not None},
            )
        )
        jobs.defer(session, "generate", record_id)
    return record_id


def accept_stamp(
    session: Session,
    runtime: Runtime,
    *,
    principal_id: uuid.UUID,
    image: bytes,
    media_type: str,
    declared_model: str | None,
    prompt: str | None,
    prompt_commitment: str | None,
    idempotency_key: str | None,
) -> uuid.UUID:
    """Record a wish to stamp `image` (already seen to be one of ours to read) and enqueue it."""
    if prompt is not None:
        requests.check_prompt(prompt, runtime.settings.max_prompt_chars)
    requests.check_declared(declared_model, prompt, prompt_commitment)
    submitted = hashlib.sha256(image).digest()
    request = {
        "image": submitted.hex(), "model": declared_model, "prompt": prompt, "prompt_commitment": prompt_commitment
    }  # fmt: skip
    record_id, is_new = requests.record_of(session, "stamp", principal_id, idempotency_key, request)
    key = f"sources/{record_id}"
    if is_new:
        jobs.require_room(session, "stamp")
        # Durable before the job that reads it can be seen; an orphan if this transaction rolls back.
        runtime.storage.put(key, image)
        session.execute(
            sa.update(Record)
            .where(Record.id == record_id)
            .values(source_key=key, submitted_sha256=submitted, media_type=media_type)
        )
        session.add(
            Stamp(
                record_id=record_id,
                declared_model=declared_model,
                prompt=prompt,
                prompt_salt=secrets.token_bytes(32) if prompt is not None else None,
                prompt_commitment=prompt_commitment,
                ai_origin=False,
            )
        )
        jobs.defer(session, "stamp", record_id)
    return record_id


def sign(runtime: Runtime, record_id: uuid.UUID, produced: Produced) -> None:
    """Step 1. Durable before: nothing. Durable after: image, report, statement and its place in the log's outbox.
    Raises Conflict `near_copy_blocked`, before any of it: then the record is abandoned, and the log says why."""
    with runtime.sessions() as session:
        if session.get_one(Record, record_id).state != "accepted":
            return  # what was signed keeps its image
    found = produced.fingerprints
    refuse_blocked(runtime, record_id, produced.evidence, found.pixel_sha256, produced.model)
    source_key = f"sources/{record_id}"
    runtime.storage.put(source_key, produced.image)
    now = runtime.clock()
    with runtime.sessions.begin() as session:
        record = locked(session, record_id)
        if record.state != "accepted":
            return
        _describe(session, record_id, produced)
        salt = secrets.token_bytes(32)
        report = build_report(session, record, produced.evidence, found, produced.model, now)
        report_sha256 = hashlib.sha256(report.body).digest()
        statement = {
            "type": RECORD,
            "record_id": str(record_id),
            "kind": record.kind,
            "created_at": now.isoformat(),
            "commitments": {
                "pixels": commitment(PIXELS_DOMAIN, salt, bytes.fromhex(found.pixel_sha256)).hex(),
                "report": commitment(REPORT_DOMAIN, salt, report_sha256).hex(),
            },
            "model": dict(produced.model) if produced.model else None,
            "snapshot": produced.evidence.snapshot.digest if produced.evidence.snapshot else None,
        }
        entry = sign_entry(statement, runtime.keys.statements, issuer=runtime.settings.origin)
        leaf_hash = sequencer.append(session, entry)
        session.add(report)
        crediting.keep(session, record_id, produced.evidence)
        drawn = produced.pictures.items()
        session.add_all(Picture(record_id=record_id, sha256=bytes.fromhex(name), png=png) for name, png in drawn)
        record.state = "signed"
        record.source_key = source_key
        record.media_type = produced.media_type
        record.salt = salt
        record.statement = entry
        record.leaf_hash = leaf_hash
        set_fingerprints(record, found)


def _describe(session: Session, record_id: uuid.UUID, produced: Produced) -> None:
    """How the image came about, fixed in the transaction that signs it."""
    generation, stamp = session.get(Generation, record_id), session.get(Stamp, record_id)
    if generation is not None:
        generation.model = dict(produced.model) if produced.model else None
        generation.parameters = dict(produced.parameters or generation.parameters)
        generation.unknown_words = list(produced.unknown_words) or None
    if stamp is not None:
        stamp.ai_origin, stamp.parent_manifest_urn = produced.ai_origin, produced.parent_manifest_urn


def finish(
    runtime: Runtime,
    record_id: uuid.UUID,
    on_step: Step = _unwatched,
    *,
    pixels: NDArray[np.uint8] | None = None,
) -> None:
    """Steps 2 to 4, from wherever the record stands. Raises Unavailable when the log does not answer in time.

    `pixels`: of the image just signed by this very process, which spares decoding it again; a resumed record has none.
    """
    with runtime.sessions() as session:
        record = session.get_one(Record, record_id)
        state, leaf = record.state, record.leaf_hash
    if state == "signed":
        assert leaf is not None
        # Durable after: the entry and a signed checkpoint over it; where so set, its witnesses' signatures too.
        _wait(runtime, leaf, runtime.settings.issue_wait)
        on_step("integrated")
        _write_and_seal(runtime, record_id, on_step, pixels)
        on_step("sealed")
    _publish(runtime, record_id)
    on_step("issued")


def unfinished(session: Session, older_than: dt.datetime) -> list[tuple[uuid.UUID, jobs.Task]]:
    """(id, task) of records that stand half-way without a job that waits or runs: what a worker resumes."""
    rows = session.execute(
        sa.select(Record.id, Record.kind)
        .where(
            Record.state.in_(("accepted", "signed", "sealed")),
            sa.or_(Record.kind != "verification", Record.state == "accepted"),
            Record.created_at < older_than,
            sa.text(
                "NOT EXISTS (SELECT 1 FROM procrastinate_jobs"
                " WHERE args->>'record_id' = records.id::text AND status IN ('todo', 'doing'))"
            ),
        )
        .order_by(Record.created_at)
    )
    return [(row.id, TASKS[row.kind]) for row in rows]


def set_fingerprints(record: Record, found: Fingerprints) -> None:
    """Copy what identifies the pixels into the row (the file's own sha256 is set when the finished file exists)."""
    record.pixel_sha256 = bytes.fromhex(found.pixel_sha256)
    record.iscc = found.iscc
    record.iscc_bits = bits(iscc_bits(found.iscc))
    record.pdq = bits(found.pdq) if found.pdq_quality >= PDQ_QUALITY else None
    record.width, record.height = found.width, found.height


# ---- the steps -----------------------------------------------------------------------------------------------------


def _wait(runtime: Runtime, leaf: bytes, until: entries.Fact) -> None:
    entries.wait(runtime.sessions, runtime.shard, leaf, runtime.settings.issue_timeout, until)


def _write_and_seal(runtime: Runtime, record_id: uuid.UUID, on_step: Step, pixels: NDArray[np.uint8] | None) -> None:
    """Step 3 and the first half of 4. Durable before: entry and proof. After: the file, and the row that names it."""
    with runtime.sessions() as session:
        record = session.get_one(Record, record_id)
        assert record.leaf_hash is not None
        assert record.source_key is not None
        assert record.media_type is not None
        source_key, signed_pixels = record.source_key, record.pixel_sha256
    source = runtime.storage.get(source_key)
    if pixels is None:
        pixels = runtime.files.decode(source).pixels
        if pixel_sha256(pixels) != signed_pixels:
            raise Inconsistent(
                f"the stored image of record {record_id} is not the one that was signed",
                code="source_changed",
                next_step="restore storage and database from the same moment; the record stays unissued until then",
            )
    credential = runtime.keys.credential  # one and the same for what is announced and what signs
    with runtime.sessions() as session:
        record = session.get_one(Record, record_id)
        assert record.leaf_hash is not None
        assert record.media_type is not None
        assert record.statement is not None
        place = entries.inclusion(
            session, runtime.shard, record.leaf_hash, witnessed=runtime.settings.issue_wait == "witnessed"
        )
        announced = announcements(
            session,
            runtime.shard,
            place,
            statement_kid=parse_statement(record.statement).kid,
            certificate_sha256=credential.leaf.fingerprint(hashes.SHA256()),
        )
        request = credential_request(session, record, place, announced, pixels, runtime.settings)
        leaf, salt, media_type = record.leaf_hash, record.salt, record.media_type
        if record.kind == "generation" and request.model is not None:
            name, revision = request.software
            credit = f"Made with {name}, recorded at {runtime.settings.public_url}/r/{record_id}"
            source = labelled(source, system=name, version=revision, credit=credit)
    written = write_credential(
        source,
        media_type,
        request,
        credential,
        tsa_url=runtime.settings.tsa_url,
        root_pem=runtime.keys.root_pem,
    )
    file_sha256 = hashlib.sha256(written.data).digest()
    file_key = f"files/{file_sha256.hex()}.{media_type.rsplit('/', 1)[-1]}"
    runtime.storage.put(file_key, written.data)
    on_step("written")
    assert salt is not None
    payload = {
        "type": ISSUED,
        "record_id": str(record_id),
        "leaf": leaf.hex(),
        "commitments": {
            "file": commitment(FILE_DOMAIN, salt, file_sha256).hex(),
            "claim": commitment(CLAIM_DOMAIN, salt, bytes.fromhex(written.claim_sha256)).hex(),
        },
        "manifest_urn": written.manifest_urn,
    }
    with runtime.sessions.begin() as session:
        record = locked(session, record_id)
        if record.state != "signed":  # another worker sealed it with its own file
            if record.file_key != file_key:
                runtime.storage.delete(file_key)
            return
        record.issued_statement = sign_entry(payload, runtime.keys.statements, issuer=runtime.settings.origin)
        record.issued_leaf = sequencer.append(session, record.issued_statement)
        record.file_sha256 = file_sha256
        record.iscc_instance = instance_code(written.data)
        record.file_key = file_key
        record.manifest_urn = written.manifest_urn
        record.claim_sha256 = bytes.fromhex(written.claim_sha256)
        record.state = "sealed"


def _publish(runtime: Runtime, record_id: uuid.UUID) -> None:
    """The second half of 4: the log holds the "issued" entry, so the record may be seen; who asked to hear is told."""
    with runtime.sessions() as session:
        record = session.get_one(Record, record_id)
        if record.state != "sealed":
            return
        assert record.issued_leaf is not None
        leaf, source_key = record.issued_leaf, record.source_key
    _wait(runtime, leaf, "integrated")
    with runtime.sessions.begin() as session:
        published = session.scalar(
            sa.update(Record)
            .where(Record.id == record_id, Record.state == "sealed")
            .values(state="issued", listed=True, issued_at=runtime.clock(), source_key=None)
            .returning(Record.id)
        )
        if published is not None:
            webhooks.tell(session, record_id)
    if source_key:
        runtime.storage.delete(source_key)
