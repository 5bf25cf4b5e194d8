"""A dossier: all that a report document is made from, and all that somebody needs to check it without the ledger.

It is a set of named parts, the same ones in every form the report takes (attachments of the PDF, files of the zip,
base64 in the JSON bundle; `ledger.reports.forms`):

    dossier.json          what follows, by name and SHA-256; when it was drawn up; the salt; what the look found
    report.json           the canonical report, byte for byte as the statement commits to it
    picture.png|jpeg|webp the issued file with its credential, up to MAX_PICTURE_BYTES
    statement.cose        the record's entry in the log, and its proof (C2SP tlog-proof) and receipt (COSE, RFC 9942)
    statement.tlog-proof
    statement.receipt
    issued.cose           the entry that says which file was issued for it, and its proof
    issued.tlog-proof
    keys.json             the proved entries that announce the keys behind all of these, down to the genesis
    timestamp.tsr         where an authority stamped a checkpoint over the statement: its word (RFC 3161), and the
    timestamp.tlog-proof  statement's proof under that checkpoint
    match-<sha256>.png    drawings of matched regions, as the report's evidence names them

That is a record's. A claim's (`ledger.reports.claim_dossier`) has its report, the decision's entry and the drawings of
its examination in these places, the record's file as picture where it is about a record, no `issued.*`, and

    steps.json            the claim's steps so far: each one's entry, its proof, and what was said where the report
                          does not hold it (answers and appeals)

All proofs but the timestamp's end in one checkpoint. A dossier is gathered once, when the report document is first
wanted: a later one would tell a later state of the log.

What it does not prove: anything that happened after it was drawn up, a stolen key or a deletion among it.
"""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version as installed_version
from pathlib import Path

import msgspec
import rfc8785
from sqlalchemy.orm import Session

from attribution.evidence import Evidence
from ledger import lookup
from ledger.credentials.read import trust_list
from ledger.database.tables.records import Picture, Record
from ledger.errors import BadRequest, NotFound
from ledger.keys.ring import leaf_kid
from ledger.log import entries
from ledger.log.entries import Inclusion
from ledger.log.notes import TlogProof
from ledger.log.policy import load_policy
from ledger.log.receipts import receipt_key_id, sign_receipt
from ledger.log.shard import query_of
from ledger.log.statements import parse_statement
from ledger.reports.announced import announcements
from ledger.reports.schema import read_report
from ledger.runtime import Runtime
from ledger.verdict import Check
from ledger.verify import Verification, verify

DOSSIER = "lawful-ledger/dossier/1"
CLAIM_DOSSIER = "lawful-ledger/claim-dossier/1"
MAX_PICTURE_BYTES = 16 * 2**20
"""Above it the picture is left out and said to be: many readers of mail and PDF stop near 20 MB."""

FACTS, REPORT, KEYS, STEPS = "dossier.json", "report.json", "keys.json", "steps.json"
STATEMENT, PROOF, RECEIPT = "statement.cose", "statement.tlog-proof", "statement.receipt"
ISSUED, ISSUED_PROOF = "issued.cose", "issued.tlog-proof"
TIMESTAMP, TIMESTAMP_PROOF = "timestamp.tsr", "timestamp.tlog-proof"


def picture_name(media_type: str) -> str:
    """What the issued file is called among the parts."""
    return f"picture.{media_type.rsplit('/', 1)[-1]}"


def match_name(sha256: str) -> str:
    """What a drawing of a matched region is called among the parts."""
    return f"match-{sha256}.png"


class Facts(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag=DOSSIER):
    """dossier.json. `look` is what `ledger.verify` found of the issued file at `drawn_up_at`, with the ledger's own
    keys.

    `salt` opens the commitments of both entries, `parts` maps the other parts' names to their SHA-256, `media_type` is
    the picture's, also where it was left out for its size. `log_vkey` and `root_pem` say by which keys the ledger wants
    to be known: to compare with keys got elsewhere, never to believe. A checker believes none of this and finds it all
    again.
    """

    software: str
    drawn_up_at: str
    record_id: str
    origin: str
    public_url: str
    log_vkey: str
    root_pem: str
    salt: str
    media_type: str
    look: Verification
    parts: dict[str, str]


class ClaimFacts(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag=CLAIM_DOSSIER):
    """dossier.json of a claim, as it stood after step number `step`; what `Facts` has too means the same.

    `about` is the record claimed on, and `media_type` its file's: null where the image was handed in, which is not in
    here. `work`: title and artist of the work named, null where it is not on record or may not be named. `witnessed`:
    whether the checkpoint of all proofs had enough witnesses' signatures. What has a default is not in the signed JSON
    report, which has no pages.
    """

    claim_id: str
    about: str | None
    origin: str
    salt: str
    parts: dict[str, str]
    software: str = ""
    drawn_up_at: str = ""
    step: int = 0
    work: str | None = None
    public_url: str = ""
    log_vkey: str = ""
    root_pem: str = ""
    media_type: str | None = None
    witnessed: bool = False


@dataclass(frozen=True)
class Dossier:
    """A record's parts by name, dossier.json apart."""

    facts: Facts
    parts: Mapping[str, bytes]


@dataclass(frozen=True)
class ClaimDossier:
    """A claim's parts by name, dossier.json apart."""

    facts: ClaimFacts
    parts: Mapping[str, bytes]


AnyDossier = Dossier | ClaimDossier


def files_of(dossier: AnyDossier) -> dict[str, bytes]:
    """Every part by name, dossier.json first and the others in a fixed order."""
    facts = rfc8785.dumps(msgspec.to_builtins(dossier.facts))
    return {FACTS: facts} | {name: dossier.parts[name] for name in sorted(dossier.parts)}


def picture_of(dossier: AnyDossier) -> bytes | None:
    """The issued file, of a claim that of the record claimed on; None without one, and where it was too large."""
    media_type = dossier.facts.media_type
    return dossier.parts.get(picture_name(media_type)) if media_type is not None else None


def part_of(dossier: AnyDossier, name: str) -> bytes:
    """Raises BadRequest `report_document_malformed` where it is missing."""
    try:
        return dossier.parts[name]
    except KeyError:
        raise BadRequest(
            f"the document lacks its part {name}",
            code="report_document_malformed",
            next_step="take the PDF, zip or JSON as it was written, unchanged",
        ) from None


def digests(parts: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 of each part, as dossier.json holds them."""
    return {name: hashlib.sha256(parts[name]).hexdigest() for name in sorted(parts)}


@lru_cache(maxsize=1)
def software() -> str:
    """What draws reports here, the pages' own sources and fonts by digest: another version may draw other pages from
    the same dossier."""
    sources = [*sorted(_HERE.glob("fonts/*")), *sorted(_HERE.glob("*.typ")), *(_HERE / name for name in _DRAWING)]
    digest = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in sources)).hexdigest()
    versions = [f"{name} {installed_version(name)}" for name in ("lawful-ledger", "typst", "pillow")]
    return ", ".join([*versions, f"pages {digest[:16]}"])


_HERE = Path(__file__).resolve().parent
_DRAWING = (
    "pages.py", "claim_pages.py", "lettering.py", "render.py", "../times.py", "../web/wording.py",
    "../../attribution/wording.py",
)  # fmt: skip


def gather(session: Session, runtime: Runtime, record_id: uuid.UUID) -> Dossier:
    """The dossier of an issued record, as things stand now.

    Raises NotFound `report_unknown` for a record that is not issued or was erased, NotFound `proof_pending` while no
    published checkpoint covers its issuing, Inconsistent `key_not_announced`, and as the log and the storage.
    """
    body = lookup.report(session, record_id)
    record = session.get_one(Record, record_id)
    key, media_type = lookup.file_key(session, record_id)
    data = runtime.storage.get(key)
    assert record.statement is not None
    assert record.salt is not None
    assert record.leaf_hash is not None
    assert record.issued_leaf is not None
    assert record.issued_statement is not None
    (place, issued), _ = places(session, runtime.shard, [record.leaf_hash, record.issued_leaf])
    parts = {
        REPORT: body,
        ISSUED: record.issued_statement,
        ISSUED_PROOF: issued.tlog_proof,
        **proved(session, runtime, record.statement, place, [record.issued_statement]),
        **drawings(session, record_id, read_report(body).evidence),
    }
    if len(data) <= MAX_PICTURE_BYTES:
        parts[picture_name(media_type)] = data
    return Dossier(
        Facts(
            software=software(),
            drawn_up_at=runtime.clock().replace(microsecond=0).isoformat(),
            record_id=str(record_id),
            origin=runtime.settings.origin,
            public_url=runtime.settings.public_url,
            log_vkey=runtime.keys.log.vkey,
            root_pem=runtime.keys.root_pem,
            salt=record.salt.hex(),
            media_type=media_type,
            look=_look(session, runtime, data, record_id, read_report(body).evidence),
            parts=digests(parts),
        ),
        parts,
    )


def places(session: Session, shard: str, leaves: Sequence[bytes]) -> tuple[list[Inclusion], bool]:
    """Where these entries stand under one checkpoint, and whether that one is witnessed: the newest that witnesses have
    signed where it covers all of them, otherwise the newest. Raises NotFound `proof_pending`."""
    for witnessed in (True, False):
        try:
            last = entries.inclusion(session, shard, leaves[-1], witnessed=witnessed)
        except NotFound:
            continue
        found = [entries.find(session, shard, leaf, witnessed=witnessed) for leaf in leaves[:-1]]
        indexes = [each.index for each in found if each is not None and each.checkpoint == last.head.note]
        if len(indexes) == len(found):
            size = last.head.size
            paths = [entries.inclusion_by_index(session, shard, index, size).path for index in indexes]
            before = [Inclusion(*each, last.head) for each in zip(indexes, leaves[:-1], paths, strict=True)]
            return [*before, last], witnessed
    raise NotFound("no published checkpoint covers all of it yet", code="proof_pending", next_step="ask again shortly")


def proved(
    session: Session, runtime: Runtime, statement: bytes, place: Inclusion, also: Sequence[bytes]
) -> dict[str, bytes]:
    """What shows that the log holds `statement`, which stands at `place`: proof, receipt, an authority's timestamp, and
    the announcements of the keys that sign it, the entries of `also`, the receipt and the document."""
    receipts, credential = runtime.keys.receipts, runtime.keys.credential
    keys = announcements(
        session,
        runtime.shard,
        place,
        statement_kid=parse_statement(statement).kid,
        certificate_sha256=leaf_kid(credential.certificates_pem),
        also=[
            ("receipts", receipt_key_id(receipts.public_key_der)),
            *(("statements", parse_statement(entry).kid) for entry in also),
        ],
    )
    head = place.head
    return {
        STATEMENT: statement,
        PROOF: place.tlog_proof,
        RECEIPT: sign_receipt(place.index, head.size, place.path, head.root, receipts, runtime.settings.origin),
        KEYS: rfc8785.dumps(keys),
        **_timestamp(session, runtime.shard, place.index),
    }


def _timestamp(session: Session, shard: str, index: int) -> dict[str, bytes]:
    """The earliest timestamped checkpoint over this entry; nothing where none was stamped."""
    rows = query_of(session)(
        "SELECT stamped.size, stamped.token, head.note FROM log_timestamps stamped"
        " JOIN log_checkpoints head USING (shard, size)"
        " WHERE shard = %s AND size > %s ORDER BY size LIMIT 1",
        (shard, index),
    )
    if not rows:
        return {}
    size, token, note = rows[0]
    path = entries.inclusion_by_index(session, shard, index, size).path
    return {TIMESTAMP: token, TIMESTAMP_PROOF: TlogProof(index, path, note).to_bytes()}


def drawings(session: Session, record_id: uuid.UUID, evidence: Evidence) -> dict[str, bytes]:
    """The matched regions that this evidence names, as far as they were drawn for the record."""
    found = {name: session.get(Picture, (record_id, bytes.fromhex(name))) for name in evidence.drawings}
    return {match_name(name): picture.png for name, picture in found.items() if picture is not None}


def _look(session: Session, runtime: Runtime, data: bytes, record_id: uuid.UUID, evidence: Evidence) -> Verification:
    """What the ledger itself finds of the file. Other records stay out: they may be deleted, and this document is not
    theirs to be in. The comparison with the collection is the report's own, not a second one."""
    policy, more = runtime.settings.witness_policy, runtime.settings.trust_anchors
    found = verify(
        data,
        session=session,
        anchors_pem=trust_list(runtime.keys.root_pem, *([more.read_text()] if more is not None else [])),
        log_vkeys=runtime.log_vkeys,
        policy=load_policy(policy) if policy is not None else None,
        examine=lambda _pixels, _found: evidence,
        now=runtime.clock(),
        files=runtime.files,
    )
    similar = found.checks[14]
    return msgspec.structs.replace(
        found,
        evidence=None,
        candidates=[],
        records=[each for each in found.records if each.id == str(record_id)],
        checks=[
            *found.checks[:14],
            Check(step=similar.step, name=similar.name, result="skip", code="not_checked"),
            *found.checks[15:],
        ],
    )
