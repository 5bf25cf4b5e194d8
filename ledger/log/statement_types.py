"""What this ledger may write into its log: every type of statement, field by field. Nothing else can be signed.

An entry stands for ever and for everybody, so what a person wrote or could be recognised by never enters it: no prompt,
name, title or file name, and no digest of erasable content but salted (`Commitment`), whose salt lives in a row that
can be deleted. `sign_entry` refuses a payload that is not described here; a test allows only the kinds of value below,
and that nothing else in this package signs statements.

What a description does not prove: that what the statement says is true.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ledger.log.statements import StatementError, StatementKey, sign_statement

UNDESCRIBED = "statement_undescribed"

PIXELS_DOMAIN = "lawful-ledger/pixels/1"
"""Of commitments to an image's canonical pixels, in whichever type of statement."""

# ---- the kinds of value --------------------------------------------------------------------------------------------

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+00:00"

Commitment = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", title="commitment")]
"""SHA-256(domain ‖ 0x00 ‖ salt ‖ digest), `ledger.log.statements.commitment`: the only digest of erasable content."""

PublicDigest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", title="public digest")]
"""Unsalted, of what is public and stays so: network weights, a frozen collection, a certificate, a policy's text."""

LeafHash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", title="leaf hash")]
"""RFC 6962 leaf hash of another entry, which is public itself."""

PublicKey = Annotated[str, Meta(pattern="^([0-9a-f]{2}){16,4096}$", title="public key")]
"""A public key, a certificate, or a key's id, as hex."""

Index = Annotated[int, Meta(ge=0, le=2**53 - 1, title="index")]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1, title="count")]
Flag = bool
Time = Annotated[str, Meta(pattern=f"^{TIME}$", title="time")]
RowId = Annotated[str, Meta(pattern=f"^{UUID}$", title="row id")]
"""A random or time-ordered UUID of ours: it says nothing, and the row behind it can be emptied."""

ManifestUrn = Annotated[str, Meta(pattern=f"^urn:c2pa:{UUID}$", title="manifest urn")]
"""A random name of ours for one credential."""

Code = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$", title="code")]
"""A word of this program's own, such as an error's code."""

Rate = Annotated[str, Meta(pattern=r"^(0\.\d{1,9}|[1-9](\.\d{1,5})?e-\d{2,3})$", title="rate")]
"""A part of one that an operator configured, as a decimal number: an error rate."""

OperatorText = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{0,500}$", title="operator's text")]
"""What an operator configured for the public to read: names of models, origins, verifier keys. Never a user's words."""

OperatorDocument = Annotated[str, Meta(max_length=32_768, title="operator's document")]
"""A file that an operator published, such as a witness policy: printable lines."""


class Described(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """A payload; the tag is its `type`."""


class Part(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An object inside a payload."""


# ---- the log's own -------------------------------------------------------------------------------------------------


KeyUse = Literal["statements", "credentials", "receipts", "reports"]


class AnnouncedKey(Part):
    """A key with its bytes; `kid` is their SHA-256. A certificate names the ledger, never a person."""

    use: KeyUse
    kid: PublicDigest
    public_key: PublicKey


class RetiredKey(Part):
    use: KeyUse
    kid: PublicDigest
    compromised: Flag


class Genesis(Described, tag="lawful-ledger/genesis/1"):
    """The first entry of a shard: the keys that sign everything after it (`ledger.log.announcements`)."""

    origin: OperatorText
    log_vkey: OperatorText
    keys: list[AnnouncedKey]
    retired: list[RetiredKey]
    created_at: Time


class Keys(Described, tag="lawful-ledger/keys/1"):
    """Keys that take the place of others from here on."""

    origin: OperatorText
    log_vkey: OperatorText
    keys: list[AnnouncedKey]
    retired: list[RetiredKey]
    created_at: Time


class WitnessPolicy(Described, tag="lawful-ledger/policy/1"):
    """From here on this policy says which witnesses are asked and how many count; an empty text: none is."""

    origin: OperatorText
    sha256: PublicDigest
    text: OperatorDocument
    created_at: Time


class Override(Described, tag="lawful-ledger/override/1"):
    """An operator goes on although a witness claims, and does not prove, to have seen `size` entries elsewhere."""

    origin: OperatorText
    witness_vkey: OperatorText
    size: Index
    reason: OperatorText
    created_at: Time


# ---- records -------------------------------------------------------------------------------------------------------


class Network(Part):
    """`models.networks.NetworkInfo`: what made or saw an image, by the operator's configuration."""

    name: OperatorText
    revision: OperatorText
    weights_sha256: PublicDigest
    licence: OperatorText


class RecordCommitments(Part):
    pixels: Commitment
    report: Commitment


class Record(Described, tag="lawful-ledger/record/1"):
    """An image was made or stamped here. Who asked, and with what words, stays in rows."""

    record_id: RowId
    kind: Literal["generation", "stamp"]
    created_at: Time
    commitments: RecordCommitments
    model: Network | None
    snapshot: PublicDigest | None


class FileCommitments(Part):
    file: Commitment
    claim: Commitment


class Issued(Described, tag="lawful-ledger/issued/1"):
    """The file with its credential exists; `leaf` is the record's."""

    record_id: RowId
    leaf: LeafHash
    commitments: FileCommitments
    manifest_urn: ManifestUrn


class Abandoned(Described, tag="lawful-ledger/abandoned/1"):
    """The record at `leaf` will never be issued."""

    record_id: RowId
    leaf: LeafHash
    reason: Code


class BlockedCommitments(Part):
    pixels: Commitment
    evidence: Commitment


Decision = Literal["allow", "warn", "block"]


class GatePolicy(Part):
    """What the operator had made follow from each reason, and the error rate up to which a copy counts."""

    identity: Decision
    copy: Decision
    refused: Decision
    alpha: Rate


class Blocked(Described, tag="lawful-ledger/blocked/1"):
    """The near-copy gate refused an image: it was never issued. Neither the work nor its artist is named, nor how alike
    they are: that stands in the evidence, which is erasable as everything else about the image is."""

    record_id: RowId
    kind: Literal["generation", "stamp"]
    created_at: Time
    commitments: BlockedCommitments
    reasons: Annotated[list[Literal["identical_work", "copy_of_work", "artist_refused"]], Meta(min_length=1)]
    policy: GatePolicy
    model: Network | None
    snapshot: PublicDigest | None


class Erased(Described, tag="lawful-ledger/erased/1"):
    """The content behind the entry at `index` of the log `origin` was deleted, and its salt with it."""

    origin: OperatorText
    index: Index
    leaf: LeafHash
    reason: Literal["requested", "ordered", "mistake"]
    asked_by: Literal["artist", "depicted person", "submitter", "court", "operator"]
    created_at: Time


class LookCommitments(Part):
    pixels: Commitment


class LookAnswers(Part):
    """The six answers of `ledger.verdict.Answers`."""

    credential: Code
    content: Code
    signature: Code
    signer: Code
    ingredients: Code
    ledger: Code


class Verification(Described, tag="lawful-ledger/verification/1"):
    """Somebody looked at an image. Without the record's id: who knows that may read the whole answer."""

    created_at: Time
    commitments: LookCommitments
    answers: LookAnswers


# ---- collections ---------------------------------------------------------------------------------------------------


class Snapshot(Described, tag="lawful-ledger/snapshot/1"):
    """A collection as it stood. `digest` is over ids, file digests, licences and grants of all its works together.

    `calibration` names what its error rates rest on; null where it was frozen before they were measured.
    """

    collection_id: RowId
    digest: PublicDigest
    works: Count
    encoders: dict[OperatorText, Network]
    calibration: PublicDigest | None
    created_at: Time


class Trained(Described, tag="lawful-ledger/trained/1"):
    """By the list that came with them, these weights learned from `works` works, some of which stand in this snapshot.

    `digest` is SHA-256 of that list: the pixel digest of each work in hex, sorted, each ended by a line feed.
    """

    model: Network
    works: Count
    digest: PublicDigest
    snapshot: PublicDigest
    works_in_snapshot: Count
    created_at: Time


class Grant(Described, tag="lawful-ledger/grant/1"):
    """One grant of one work changed; by a role, never by a name."""

    work_id: RowId
    grant: Literal["train", "compare", "name"]
    allowed: Flag
    by_role: Literal["artist", "estate", "court", "operator"]
    created_at: Time


class ArtistLinked(Described, tag="lawful-ledger/artist-linked/1"):
    """From here on somebody acts for this artist by the operator's word, or, where `linked` is false, no longer does.

    Who it is stays in a row: neither a name nor an id of theirs is here.
    """

    artist_id: RowId
    linked: Flag
    created_at: Time


class ApiKey(Described, tag="lawful-ledger/api-key/1"):
    """From here on an API key with this role opens the ledger's doors, or, where `valid` is false, no longer does.

    `key_id` is a row's: nothing of the key itself, nor whose it is.
    """

    key_id: RowId
    role: Literal["submitter", "operator", "auditor", "admin"]
    valid: Flag
    created_at: Time


class SubmitterKey(Described, tag="lawful-ledger/submitter-key/1"):
    """This Ed25519 key signs for `submitter` from here on; `kid` is its SHA-256."""

    submitter: RowId
    kid: PublicDigest
    ed25519: PublicKey
    created_at: Time


class SubmitterKeyRevoked(Described, tag="lawful-ledger/submitter-key-revoked/1"):
    """What this submitter's key signs is taken no more."""

    kid: PublicDigest
    created_at: Time


# ---- claims ----------------------------------------------------------------------------------------------------------


class Document(Part):
    """What was said at this step: words, facts or a report, kept in a row that can be emptied."""

    document: Commitment


class ClaimOpened(Described, tag="lawful-ledger/claim-opened/1"):
    """Somebody claims something of the record `about`, or of an image that was handed in. Who, and in what words, stays
    in rows."""

    claim_id: RowId
    kind: Literal["mine", "copies", "style", "unconsented"]
    about: RowId | None
    work_id: RowId | None
    commitments: Document
    created_at: Time


class ClaimExamined(Described, tag="lawful-ledger/claim-examined/1"):
    """Image and work were compared, with the collection in this state. `previous`: the leaf of the step before."""

    claim_id: RowId
    previous: LeafHash
    snapshot: PublicDigest | None
    commitments: Document
    created_at: Time


class ClaimDecided(Described, tag="lawful-ledger/claim-decided/1"):
    """The finding on image and work, by the rules of this version; that the claimant is the artist is another fact."""

    claim_id: RowId
    previous: LeafHash
    outcome: Literal["supported", "contradicted", "inconclusive"]
    claimant: Literal["verified", "declared"]
    rules: Code
    grounds: list[Code]
    commitments: Document
    created_at: Time


ClaimRole = Literal["claimant", "submitter", "operator", "ledger"]


class ClaimAnswered(Described, tag="lawful-ledger/claim-answered/1"):
    """The other side used its right of reply."""

    claim_id: RowId
    previous: LeafHash
    by_role: ClaimRole
    commitments: Document
    created_at: Time


class ClaimAppealed(Described, tag="lawful-ledger/claim-appealed/1"):
    """One side asks for another examination: by then more may be on record."""

    claim_id: RowId
    previous: LeafHash
    by_role: ClaimRole
    commitments: Document
    created_at: Time


class ClaimClosed(Described, tag="lawful-ledger/claim-closed/1"):
    """The newest decision stands."""

    claim_id: RowId
    previous: LeafHash
    by_role: ClaimRole
    created_at: Time


class ClaimWithdrawn(Described, tag="lawful-ledger/claim-withdrawn/1"):
    """The claimant no longer claims it. Decisions that were made stay on record."""

    claim_id: RowId
    previous: LeafHash
    by_role: ClaimRole
    created_at: Time


# ---- what submitters sign themselves --------------------------------------------------------------------------------


class Declaration(Described, tag="lawful-ledger/declaration/1"):
    """A registered submitter commits to something of their own, salted on their side."""

    commitment: Commitment
    created_at: Annotated[str, Meta(max_length=40, pattern=r"^[0-9T:.Z+-]+$", title="time")]


TYPES: tuple[type[Described], ...] = (
    Genesis, Keys, WitnessPolicy, Override, Record, Issued, Abandoned, Blocked, Erased, Verification, Snapshot, Trained,
    Grant, ArtistLinked, ApiKey, SubmitterKey, SubmitterKeyRevoked, ClaimOpened, ClaimExamined, ClaimDecided,
    ClaimAnswered, ClaimAppealed, ClaimClosed, ClaimWithdrawn, Declaration
)  # fmt: skip


def describe(payload: Mapping[str, Any]) -> Described:
    """The payload as its type. Raises StatementError code `statement_undescribed`, which names the field only."""
    known = {described.__struct_config__.tag: described for described in TYPES}
    described = known.get(payload.get("type"))
    if described is None:
        raise StatementError(f"no type of statement is called {str(payload.get('type'))[:60]!r}", code=UNDESCRIBED)
    try:
        return msgspec.convert(dict(payload), described)
    except msgspec.ValidationError as error:
        # msgspec says "…, got `str` - at `$.field`" or which pattern is missed: never the value
        raise StatementError(f"{described.__name__}: {error}", code=UNDESCRIBED) from error


def sign_entry(payload: Mapping[str, Any], key: StatementKey, *, issuer: str) -> bytes:
    """Sign a described payload as the ledger's statement; its subject is its type. Raises as `describe` and
    `sign_statement` do."""
    describe(payload)
    return sign_statement(payload, key, issuer=issuer, subject=str(payload["type"]))
