"""Read anybody's content credential from a PNG, JPEG or WebP, without network and without believing it.

The SDK's default reader fetches any address a file names; this one fetches nothing: a remote manifest is named,
revocation and identity services are not asked. Everything that comes out of a manifest is a stranger's text: plain
data, bounded in length, stripped of control characters where it is meant to be shown.

Only the active manifest's own assertions are returned as `ledger` and `attribution`: what an ancestor says describes an
earlier picture. They are found here, not believed: `ledger.verify` holds them against the log.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, Literal

import c2pa  # type: ignore[import-untyped]
from cryptography import x509

from ledger.credentials.answers import Answers, Content, Ingredients, Signature, Signer, all_codes, answer
from ledger.credentials.jumbf import Claim, manifest_stores, newest_claim
from ledger.credentials.write import ATTRIBUTION_ASSERTION, LEDGER_ASSERTION, NO_NETWORK, TRUST_CONFIG
from ledger.errors import BadRequest

Presence = Literal["present", "absent", "unreadable", "remote_only"]

MAX_MANIFEST_CHARS = 4 * 2**20  # of the reader's JSON; ours has about 20 thousand
MAX_SHOWN_CHARS = 512

_UNSHOWABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_REMOTE = re.compile(r"from url (\S+)")


@dataclass(frozen=True)
class CredentialReading:
    """What a file's credential says and how far that can be checked, at `checked_at` and under one trust list.

    `credential` absent means that there is none in the file, never that a human made it. `codes` are the SDK's raw
    validation codes, all of them; codes under `reader.` are this module's, where the SDK gave an error instead.
    `signed_at` is set only by a timestamp authority the checker trusts. `claim_sha256` and `data_hash` as written in
    `WrittenCredential`; `certificate_sha256` is the signing certificate's fingerprint, as the log announces it.
    `manifest` is the whole store as the SDK renders it, {} where it is beyond bounds.
    """

    credential: Presence
    checked_at: datetime
    trust_list_sha256: str
    content: Content = "not_checked"
    signature: Signature = "not_checked"
    signer: Signer = "not_checked"
    ingredients: Ingredients = "not_checked"
    codes: list[str] = field(default_factory=list)
    reason: str | None = None
    validation_state: str | None = None
    manifest_urn: str | None = None
    claim_sha256: str | None = None
    data_hash: str | None = None
    certificate_sha256: str | None = None
    signer_name: str | None = None
    signed_at: str | None = None
    certificate_expires: datetime | None = None
    remote_url: str | None = None
    claim_generator: str | None = None
    ledger: dict[str, Any] | None = None
    attribution: dict[str, Any] | None = None
    manifest: dict[str, Any] = field(default_factory=dict)


def read_credential(data: bytes, media_type: str, *, anchors_pem: str, now: datetime) -> CredentialReading:
    """Read and check the credential of one file. Hostile files give answers, never an exception.

    `anchors_pem`: the roots the checker trusts, timestamp authorities' among them; empty for none. `now`: aware time
    of the check. A certificate is expired when it is so by `now` or by the machine's clock, which the SDK reads.
    `media_type` only helps the SDK; the bytes decide. Raises BadRequest `anchors_unreadable` for a trust list that is
    not PEM certificates: that is the operator's mistake, not the file's.
    """
    context = _context(anchors_pem)
    answered = partial(
        CredentialReading, checked_at=now, trust_list_sha256=hashlib.sha256(anchors_pem.encode()).hexdigest()
    )
    stores = manifest_stores(data)
    if len(stores) > 1:  # C2PA 2.4, appendix A: one store a file; which of two to believe is nobody's to choose
        return answered("unreadable", codes=["reader.several_manifest_stores"])
    try:
        # handed over rather than found again: so the claim that is hashed is the claim that is checked
        store = stores[0] if stores else None
        with c2pa.Reader(media_type, io.BytesIO(data), store, context) as reader:
            return _reading(reader, stores, now, answered)
    except c2pa.C2paError.ManifestNotFound:
        return answered("unreadable", codes=["reader.empty_manifest_store"]) if stores else answered("absent")
    except Exception as error:  # noqa: BLE001 - any error over a stranger's bytes is an answer about them
        remote = None if stores else _REMOTE.search(str(error))
        if remote is not None:
            return answered("remote_only", codes=["reader.remote_manifest"], remote_url=_shown(remote.group(1)))
        kind = type(error).__name__.removeprefix("_C2pa").removeprefix("C2pa").lower()
        return answered("unreadable", codes=[f"reader.{kind}"], reason=_shown(str(error)))


def trust_list(*pems: str) -> str:
    """One PEM text of several, for `anchors_pem`: certificates in the order given, each once, nothing else."""
    block = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
    found = dict.fromkeys(certificate for pem in pems for certificate in block.findall(pem))
    return "".join(certificate + "\n" for certificate in found)


def _reading(
    reader: c2pa.Reader, stores: list[bytes], now: datetime, answered: Callable[..., CredentialReading]
) -> CredentialReading:
    text = reader.json()
    if len(text) > MAX_MANIFEST_CHARS:
        return answered("unreadable", codes=["reader.manifest_too_large"])
    manifest = json.loads(text)
    active = str(manifest["active_manifest"])
    manifests = _mapping(manifest["manifests"])
    own = _mapping(manifests.get(active))  # the SDK leaves out one whose statements it cannot render, but judges it
    results = _mapping(manifest.get("validation_results"))
    answers = answer(results, manifests, active)
    claim = newest_claim(stores[0]) if stores else None
    if claim is not None and claim.manifest_urn != active:
        claim = None
    expires = _expires(reader, active, claim)
    answers = _expire(answers, expires, now)
    signature = _mapping(own.get("signature_info"))
    generators = own.get("claim_generator_info")
    generator = _mapping(generators[0]) if isinstance(generators, list) and generators else {}
    return answered(
        "present",
        content=answers.content,
        signature=answers.signature,
        signer=answers.signer,
        ingredients=answers.ingredients,
        codes=all_codes(results, manifests),
        validation_state=_shown(manifest.get("validation_state")),
        manifest_urn=_shown(active),
        claim_sha256=claim.claim_sha256 if claim else None,
        data_hash=claim.data_hash if claim else None,
        certificate_sha256=hashlib.sha256(claim.certificate).hexdigest() if claim and claim.certificate else None,
        signer_name=_shown(signature.get("issuer") or signature.get("common_name")),
        signed_at=_shown(signature.get("time")) if answers.timestamped else None,
        certificate_expires=expires,
        remote_url=_shown(reader.get_remote_url()),
        claim_generator=_shown(" ".join(str(generator[key]) for key in ("name", "version") if key in generator)),
        ledger=_assertion(own, LEDGER_ASSERTION),
        attribution=_assertion(own, ATTRIBUTION_ASSERTION),
        manifest=manifest,
    )


def _expire(answers: Answers, expires: datetime | None, now: datetime) -> Answers:
    """Judge expiry at `now` too. Who signed stays open then: a key lost since could have done it."""
    if answers.signature == "valid" and not answers.timestamped and expires is not None and expires < now:
        return Answers(answers.content, "expired", "not_checked", answers.ingredients, timestamped=False)
    return answers


def _expires(reader: c2pa.Reader, active: str, claim: Claim | None) -> datetime | None:
    """When the signing certificate runs out. Where it was not found in the file, only the SDK's crJSON rendering says
    so, which takes as long as the rest of the reading's JSON together."""
    try:
        if claim is not None and claim.certificate is not None:
            return x509.load_der_x509_certificate(claim.certificate).not_valid_after_utc
        for manifest in json.loads(reader.crjson())["manifests"]:
            if manifest.get("label") == active:
                certificate = _mapping(_mapping(manifest.get("signature")).get("certificateInfo"))
                return _time(_mapping(certificate.get("validity")).get("notAfter"))
    except (c2pa.C2paError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return None


def _assertion(manifest: Mapping[str, Any], label: str) -> dict[str, Any] | None:
    assertions = manifest.get("assertions")
    found = [
        entry["data"]
        for entry in (assertions if isinstance(assertions, list) else ())
        if isinstance(entry, dict) and entry.get("label") == label and isinstance(entry.get("data"), dict)
    ]
    return found[0] if len(found) == 1 else None  # of two with one label neither is ours


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _shown(value: object) -> str | None:
    """A stranger's text for one line: no control, bidirectional or zero-width characters, at most 512 characters."""
    if not isinstance(value, str) or not value:
        return None
    return _UNSHOWABLE.sub("�", value[:MAX_SHOWN_CHARS])


def _time(value: object) -> datetime | None:
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return parsed if parsed is None or parsed.tzinfo is not None else None


@lru_cache(maxsize=8)
def _context(anchors_pem: str) -> c2pa.Context:
    trust = {"trust_config": TRUST_CONFIG} | ({"user_anchors": anchors_pem} if anchors_pem else {})
    try:
        if anchors_pem:  # the SDK passes over blocks that hold no certificate
            x509.load_pem_x509_certificates(anchors_pem.encode())
        return c2pa.Context.from_dict({**NO_NETWORK, "trust": trust})
    except (ValueError, c2pa.C2paError) as error:
        raise BadRequest(
            f"The trust list of {len(anchors_pem)} characters is not a list of PEM certificates.",
            code="anchors_unreadable",
            next_step="Give a file of certificates in PEM form: -----BEGIN CERTIFICATE----- …",
        ) from error
