"""Which manifest belongs to a picture that lost its credential: found by ISCC, handed out byte for byte.

The use cases behind the C2PA Soft Binding Resolution API 2.4. One algorithm, `io.iscc.v0`, and of it the Image-Code of
256 bits: what every credential of this ledger carries. A match says "looks alike", never "is": whoever gets a manifest
compares its picture, and finds that its hard binding does not fit the file in hand.
"""

import base64
import binascii
import re
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from attribution.fingerprints import ISCC_BITS, bits, image_codes, iscc_bits
from ledger.credentials.jumbf import manifest_stores, one_manifest
from ledger.database.tables.records import Record
from ledger.errors import BadRequest, Inconsistent, NotFound
from ledger.lookup import SOFT_BITS
from ledger.storage import Storage

ALG = "io.iscc.v0"
SPECIFICATION = "2.4.0"
MAX_RESULTS = 40
"""As many near records as the index gives for one question (pgvector's hnsw.ef_search)."""

_MANIFEST_URN = re.compile(r"urn:c2pa:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class ManifestMatch(msgspec.Struct, frozen=True, rename="camel"):
    """`similarity_score`, 0 to 100: the part of the ISCC's 256 bits that agree, rounded down. 100 says that all agree,
    which pictures that were saved again do, and which proves no identity; unrelated ones would have about 50."""

    manifest_id: str
    similarity_score: int


def codes_of(alg: str, value: str) -> list[str]:
    """The Image-Codes that a query's value holds: base64 of an ISCC-SEQ (IEP-0020), or of the text `ISCC:…` as the
    credentials of this ledger state it (their format has no bytes). Padding may be missing, the alphabet be base64url.

    Raises BadRequest `alg_unsupported`, `binding_malformed`.
    """
    check_alg(alg)
    try:
        plain = value.translate(_STANDARD)
        raw = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        text = raw.decode("ascii") if raw.startswith(b"ISCC:") else None
        if text is not None:
            iscc_bits(text)
        codes = image_codes(raw) if text is None else [text]
    except (binascii.Error, ValueError):  # UnicodeDecodeError and what foreign ISCCs raise are ValueErrors
        codes = []
    if not codes:
        raise BadRequest(
            f"value: in these {len(value)} characters is no ISCC Image-Code of {ISCC_BITS} bits",
            code="binding_malformed",
            next_step="send base64 of an ISCC-SEQ with an Image-Code, or of its text ISCC:…; percent-encode it in an"
            " address",
        )
    return codes


_STANDARD = str.maketrans("-_", "+/", "=")
"""base64url to base64, without padding."""


def check_alg(alg: str) -> None:
    """Raises BadRequest `alg_unsupported` for any algorithm but ours."""
    if alg != ALG:
        raise BadRequest(
            f"alg: {alg[:60]!r} is not searched here",
            code="alg_unsupported",
            next_step=f"use {ALG}; /v1/services/supportedAlgorithms lists what is",
        )


def matches(session: Session, codes: Sequence[str], limit: int) -> list[ManifestMatch]:
    """The credentials of listed records whose Image-Code differs in at most `SOFT_BITS` from one of `codes`: nearest
    first, of equally near ones the earliest; at most `limit` of them, and never more than MAX_RESULTS.

    Equal codes are all found. The index over near ones is approximate: one may be missed; what is returned was
    measured exactly. Erased records and such as are not issued are never among them.
    """
    limit = min(limit, MAX_RESULTS)
    found: dict[str, tuple[int, float]] = {}
    for code in codes:
        distance = Record.iscc_bits.op("<~>", return_type=sa.Float())(
            sa.cast(bits(iscc_bits(code)), Record.iscc_bits.type)
        )
        columns = sa.select(Record.manifest_urn, distance, sa.func.extract("epoch", Record.created_at))
        equal = columns.where(Record.listed, Record.iscc == code).order_by(Record.created_at).limit(limit)
        near = columns.where(Record.listed, Record.iscc_bits.is_not(None)).order_by(distance).limit(limit)
        for urn, differing, at in (*session.execute(equal), *session.execute(near)):
            if differing <= SOFT_BITS["iscc"]:
                here = (int(differing), float(at))
                found[urn] = min(found.get(urn, here), here)
    nearest = sorted(found.items(), key=lambda each: each[1])[:limit]
    return [ManifestMatch(urn, 100 * (ISCC_BITS - differing) // ISCC_BITS) for urn, (differing, _) in nearest]


def manifest_store(session: Session, storage: Storage, manifest_id: str, *, alone: bool = False) -> bytes:
    """The manifest store of the issued file whose active manifest is `manifest_id`, byte for byte as the file has it;
    with `alone`, a store with that manifest only.

    Raises NotFound `manifest_unknown`, Inconsistent `manifest_missing`, and what Storage raises.
    """
    file_key = None
    if _MANIFEST_URN.fullmatch(manifest_id):
        listed = sa.select(Record.file_key).where(Record.manifest_urn == manifest_id, Record.listed)
        file_key = session.scalar(listed)
    if file_key is None:
        raise NotFound(
            f"no manifest {manifest_id[:80]!r} is kept here",
            code="manifest_unknown",
            next_step="ask with a manifestId that /v1/matches gave; one that was erased is not given any more",
        )
    stores = manifest_stores(storage.get(file_key))
    try:
        (store,) = stores
        return one_manifest(store, manifest_id) if alone else store
    except ValueError as error:
        raise Inconsistent(
            f"the stored file of {manifest_id} holds {len(stores)} manifest stores, or another manifest",
            code="manifest_missing",
            next_step="restore storage and database from the same moment",
        ) from error
