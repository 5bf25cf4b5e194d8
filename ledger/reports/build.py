"""The report of a record, as canonical JSON, and what of it goes into the file's credential.

The record's statement commits to the report's sha256, so the log entry is the report's signature.
"""

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version as installed_version
from typing import Any

import msgspec
import numpy as np
import rfc8785
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from attribution.evidence import Evidence
from attribution.fingerprints import Fingerprints
from ledger.credentials.write import CredentialRequest, ModelDisclosure, new_manifest_urn, thumbnail
from ledger.database.tables.records import Generation, Record, Report, Stamp
from ledger.log.entries import Inclusion
from ledger.log.statements import commitment
from ledger.settings import Settings
from models.images import CANONICAL

REPORT_SCHEMA = "lawful-ledger/report/1"
RECORD_SCHEMA = "lawful-ledger/record/1"
ATTRIBUTION_SCHEMA = "lawful-ledger/attribution/1"
PROMPT_DOMAIN = "lawful-ledger/prompt/1"

NOT_PROVEN = (
    "Similarity is not authorship, and a similarity share is not a share of influence.",
    "Being recorded proves that these pixels existed by that time, not who made them.",
    "That nothing was found does not show that nothing was used.",
)

SOFTWARE = ("Lawful Ledger", installed_version("lawful-ledger"))

# What the credential repeats of the evidence; the whole of it is in the report.
CREDENTIAL_NEAREST = 3


def build_report(
    session: Session,
    record: Record,
    evidence: Evidence,
    found: Fingerprints,
    model: Mapping[str, str] | None,
    now: dt.datetime,
) -> Report:
    """The report's row, body in RFC 8785 form. It holds no prompt: only its salted commitment."""
    body: dict[str, Any] = {
        "schema": REPORT_SCHEMA,
        "record_id": str(record.id),
        "kind": record.kind,
        "created_at": now.isoformat(),
        "image": {
            "canonical": CANONICAL,
            "pixel_sha256": found.pixel_sha256,
            "iscc": found.iscc,
            "pdq": found.pdq,
            "width": found.width,
            "height": found.height,
        },
        "made": _made(session, record, model),
        "evidence": msgspec.to_builtins(evidence),
        "not_proven": list(NOT_PROVEN),
    }
    encoded = rfc8785.dumps(body)
    return Report(record_id=record.id, sha256=hashlib.sha256(encoded).digest(), body=encoded)


def _made(session: Session, record: Record, model: Mapping[str, str] | None) -> dict[str, Any]:
    """How the image came about, and who says so."""
    if record.kind == "generation":
        generation = session.get_one(Generation, record.id)
        return {
            "by": "this ledger's generator",
            "model": dict(model) if model else None,
            "seed": str(generation.seed),
            "parameters": generation.parameters,
            "prompt_commitment": _prompt_commitment(generation.prompt, generation.prompt_salt),
        }
    stamp = session.get_one(Stamp, record.id)
    return {
        "by": "declared by the submitter; the ledger vouches for what it saw and when, not for how it was made",
        "declared_model": stamp.declared_model,
        "model": dict(model) if model else None,  # ours, when these pixels are a generation of this ledger
        "model_key_registered": stamp.ai_origin and model is None,
        "prompt_commitment": stamp.prompt_commitment or _prompt_commitment(stamp.prompt, stamp.prompt_salt),
    }


def _prompt_commitment(prompt: str | None, salt: bytes | None) -> str | None:
    if prompt is None or salt is None:
        return None
    return commitment(PROMPT_DOMAIN, salt, hashlib.sha256(prompt.encode()).digest()).hex()


def credential_request(
    session: Session,
    record: Record,
    place: Inclusion,
    announced: Sequence[dict[str, str]],
    pixels: NDArray[np.uint8],
    settings: Settings,
) -> CredentialRequest:
    """Everything the credential of a signed record says. `place`: of its statement in the log; `announced`: of the keys
    that sign it and the credential, from `ledger.reports.announced`."""
    report = session.get_one(Report, record.id)
    body = json.loads(report.body)
    assert record.salt is not None
    assert record.statement is not None
    stamp = session.get(Stamp, record.id)
    edited = stamp is not None and stamp.parent_manifest_urn is not None
    made = body["made"]
    model = _disclosed_model(made) if not edited and (stamp is None or stamp.ai_origin) else None
    return CredentialRequest(
        manifest_urn=new_manifest_urn(),
        intent="edit" if edited else ("create" if model else "declared"),
        software=(model.name, (made["model"] or {}).get("revision", "as declared")) if model else SOFTWARE,
        ledger=ledger_assertion(record, report, place, announced, settings),
        attribution=attribution_assertion(body["evidence"], report, record, settings),
        iscc=body["image"]["iscc"],
        model=model,
        thumbnail=thumbnail(pixels),
    )


def _disclosed_model(made: dict[str, Any]) -> ModelDisclosure | None:
    """The model as far as it is known: by its weights' digest for our own, by name for a registered submitter's."""
    model = made.get("model")
    if model is not None:
        return ModelDisclosure(
            model["name"], f"{model['name']}@{model['revision']} weights sha256:{model['weights_sha256']}"
        )
    declared = made.get("declared_model")
    return ModelDisclosure(declared, declared) if declared else None


def ledger_assertion(
    record: Record, report: Report, place: Inclusion, announced: Sequence[dict[str, str]], settings: Settings
) -> dict[str, Any]:
    """The entry, the salt that opens its commitments, the log's own proof and the announcements of the keys: enough to
    check all of it offline from the log's key alone (`ledger.file_proof`)."""
    assert record.salt is not None
    assert record.statement is not None
    assert record.pixel_sha256 is not None
    return {
        "schema": RECORD_SCHEMA,
        "origin": settings.origin,
        "record_id": str(record.id),
        "statement": base64.b64encode(record.statement).decode(),
        "salt": record.salt.hex(),
        "tlog_proof": place.tlog_proof.decode(),
        "keys": list(announced),
        "canonical": CANONICAL,
        "pixel_sha256": record.pixel_sha256.hex(),
        "report_sha256": report.sha256.hex(),
        "lookup_url": f"{settings.public_url}/r/{record.id}",
    }


def attribution_assertion(
    evidence: dict[str, Any], report: Report, record: Record, settings: Settings
) -> dict[str, Any]:
    """What the ledger found the image closest to, and what that does not prove."""
    copies, style = evidence.get("copy"), evidence.get("style")
    return {
        "schema": ATTRIBUTION_SCHEMA,
        "method": evidence["version"],
        "finding": evidence["statement"],
        "findings": evidence.get("findings", []),
        "not_proven": list(NOT_PROVEN),
        "snapshot": evidence.get("snapshot"),
        "identity": evidence.get("identity"),
        "nearest": {
            name: {"encoder": axis["encoder"], "metric": axis["metric"], "works": axis["nearest"][:CREDENTIAL_NEAREST]}
            for name, axis in evidence.get("neighbours", {}).items()
        },
        "copies": copies["matches"][:CREDENTIAL_NEAREST] if copies else [],
        "style": style | {"artists": style["artists"][:CREDENTIAL_NEAREST]} if style else None,
        "conflicts": evidence.get("conflicts", []),
        "gate": evidence.get("gate"),
        "report_sha256": report.sha256.hex(),
        "report_url": f"{settings.public_url}/v1/records/{record.id}/report",
    }
