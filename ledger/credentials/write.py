"""Write one content credential into a PNG, JPEG or WebP: the ledger's own claim, never a list of training works.

The picture stays bit for bit what it was; only the credential's chunk is added, as the last thing ever done to a file
(anything added later breaks the hash). No network, except the timestamp authority where one is configured.

What a credential says, in assertions of C2PA specification 2.4: what was done (`c2pa.actions.v2`), that a model made it
(`c2pa.ai-disclosure`, only where that is so), what the log holds (`org.lawful-ledger.record`), whose work it stands
close to (`org.lawful-ledger.attribution`), an identifier that survives re-encoding (`c2pa.soft-binding`, ISCC) and
whether it may be trained on (`cawg.training-mining` 1.1). Training works and models are no ingredients: checkers would
report media of unknown provenance.
"""

import io
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version as installed_version
from typing import Any, Literal

import c2pa  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ledger.credentials.jumbf import manifest_stores, newest_claim
from ledger.errors import BadRequest, Inconsistent, LedgerError, Unavailable
from ledger.keys.certificates import CLAIM_SIGNING, EMAIL_PROTECTION, TIME_STAMPING
from ledger.keys.ring import CredentialKey

LEDGER_ASSERTION = "org.lawful-ledger.record"
ATTRIBUTION_ASSERTION = "org.lawful-ledger.attribution"
SPECIFICATION = "2.4.0"
VERSION = installed_version("lawful-ledger")
MEDIA_TYPES = ("image/png", "image/jpeg", "image/webp")
THUMBNAIL_EDGE = 256
MAX_STATEMENT_BYTES = 2**20 - 1  # the SDK's limit for a manifest definition

AI_MADE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

TRUST_CONFIG = "\n".join((CLAIM_SIGNING, EMAIL_PROTECTION, TIME_STAMPING))
"""Extended key usages the SDK accepts; without the list a leaf with claimSigning alone reads Invalid."""

NO_NETWORK: Mapping[str, Any] = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "core": {"decode_identity_assertions": False, "allowed_network_hosts": []},
}

Intent = Literal["create", "edit", "declared"]
TrainingUse = Literal["allowed", "notAllowed", "constrained"]


@dataclass(frozen=True)
class ModelDisclosure:
    """The model that made an image, for `c2pa.ai-disclosure` (C2PA 2.4).

    `identifier` should hold name, revision and weights digest. `human_oversight` is one of the specification's
    `fully_autonomous`, `prompt_guided`, `human_validated`.
    """

    name: str
    identifier: str
    human_oversight: str = "prompt_guided"


@dataclass(frozen=True)
class CredentialRequest:
    """What one credential is to say.

    `intent`: `create` for an image a model made (needs `model`, and bytes without a credential); `edit` for an image
    that brings a credential, which is kept as its parent; `declared` for one that brings none and of whose making
    nothing is claimed: the image as it came is then its parent, of unknown provenance.
    `manifest_urn`: `urn:c2pa:<uuid>`, chosen by the caller so that it can be logged before the file exists.
    `software`: name and version of what made the image (`create`) or added the credential.
    `ledger`, `attribution`: JSON objects, integers within 64 bits, no bytes.
    `iscc`: ISCC text of the soft binding. `thumbnail`: a JPEG from `thumbnail()`.
    `training_use`: what `cawg.training-mining` says for all four of its entries; None leaves it out.
    """

    manifest_urn: str
    intent: Intent
    software: tuple[str, str]
    ledger: Mapping[str, Any]
    attribution: Mapping[str, Any] | None = None
    iscc: str | None = None
    model: ModelDisclosure | None = None
    thumbnail: bytes | None = None
    training_use: TrainingUse | None = "notAllowed"


@dataclass(frozen=True)
class WrittenCredential:
    """The file, and what names its credential: URN, sha256 of the claim, and the hash of the bytes outside it (hex).

    `data` itself has no lasting name: padding in a manifest may change while it reads the same.
    """

    data: bytes
    manifest_urn: str
    claim_sha256: str
    data_hash: str


def new_manifest_urn() -> str:
    """A fresh label `urn:c2pa:<uuid4>` (C2PA 2.4, unique identifiers)."""
    return f"urn:c2pa:{uuid.uuid4()}"


def thumbnail(pixels: NDArray[np.uint8]) -> bytes | None:
    """A JPEG of at most 256 x 256 px of uint8 RGB pixels (height, width, 3); None for images smaller than that.

    Made here, from pixels already decoded, because the SDK would decode the file again with a decoder of its own:
    slower, and one more that hostile files reach.
    """
    if max(pixels.shape[:2]) < THUMBNAIL_EDGE:
        return None
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_EDGE, THUMBNAIL_EDGE), Image.Resampling.BILINEAR, reducing_gap=1.0)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=60)
    return out.getvalue()


def write_credential(
    data: bytes,
    media_type: str,
    request: CredentialRequest,
    key: CredentialKey,
    *,
    tsa_url: str | None = None,
    root_pem: str,
) -> WrittenCredential:
    """Sign a credential into a PNG, JPEG or WebP and check it before it is returned. Format and pixels stay.

    Raises BadRequest `credential_intent` (the request does not fit the file), `credential_unreadable` (the file's own
    credential cannot be kept), `credential_too_large`, `credential_not_written`; Unavailable `tsa_down`,
    `credential_expired`, and whatever the key itself raises.
    Blocks up to 30 s, the SDK's limit, on a timestamp authority that does not answer.
    """
    _check_request(data, media_type, request)
    try:
        return _sign(data, media_type, request, key, tsa_url, root_pem)
    except c2pa.C2paError as error:
        # the SDK names no cause; so the two that an operator can mend are looked for, and only after a failure
        if key.not_after <= datetime.now(UTC):
            raise Unavailable(
                f"The signing certificate expired at {key.not_after.isoformat()}.",
                code="credential_expired",
                next_step="Run `lawful keys rotate credential`; records already issued stay as they are.",
            ) from error
        if tsa_url is not None and _signs_without_timestamp(data, media_type, request, key, root_pem):
            raise Unavailable(
                "The timestamp authority gave no valid timestamp; nothing was signed.",
                code="tsa_down",
                next_step="Try again later, or unset LAWFUL_TSA_URL: files then expire with the certificate.",
            ) from error
        raise BadRequest(
            f"No credential could be written into this {media_type}: {str(error)[:200]}",
            code="credential_not_written",
            next_step="Save the image again with another program and send that.",
        ) from error


def _check_request(data: bytes, media_type: str, request: CredentialRequest) -> None:
    def refuse(detail: str, next_step: str) -> BadRequest:
        return BadRequest(detail, code="credential_intent", next_step=next_step)

    if media_type not in MEDIA_TYPES:
        raise refuse(f"No credential can be written into {media_type}.", "Send a PNG, JPEG or WebP.")
    if (request.intent == "create") != (request.model is not None):
        raise refuse("A model is named exactly where a model made the image.", "Use intent `create` with a model.")
    has_credential = bool(manifest_stores(data))
    if request.intent == "edit" and not has_credential:
        raise refuse("Intent `edit` keeps a credential, and this file has none.", "Use intent `declared`.")
    if request.intent != "edit" and has_credential:
        raise refuse(f"Intent `{request.intent}` would hide the credential this file has.", "Use intent `edit`.")
    size = len(_manifest(request))
    if size > MAX_STATEMENT_BYTES:
        raise BadRequest(
            f"The credential's statements come to {size} bytes; the limit is {MAX_STATEMENT_BYTES}.",
            code="credential_too_large",
            next_step="Put the whole report behind its URL and hash, and only its head into the file.",
        )


def _sign(
    data: bytes, media_type: str, request: CredentialRequest, key: CredentialKey, tsa_url: str | None, root_pem: str
) -> WrittenCredential:
    out = io.BytesIO()
    with c2pa.Builder(_manifest(request), _context(root_pem)) as builder:
        if request.thumbnail is not None:
            builder.add_resource("thumbnail.jpg", io.BytesIO(request.thumbnail))
        if request.intent != "create":
            _add_parent(builder, data, media_type)
        with _signer(key, tsa_url) as signer:
            store = builder.sign(signer, media_type, io.BytesIO(data), out)
    claim = newest_claim(store)
    if claim is None or claim.data_hash is None or claim.manifest_urn != request.manifest_urn:
        raise Inconsistent(
            "The credential just written does not read as it was asked for.",
            code="credential_inconsistent",
            next_step="Keep the file and report it; this version of c2pa-python is not the one that was tested.",
        )
    return WrittenCredential(out.getvalue(), claim.manifest_urn, claim.claim_sha256, claim.data_hash)


def _add_parent(builder: c2pa.Builder, data: bytes, media_type: str) -> None:
    parent = {"relationship": "parentOf", "label": "parent", "instance_id": f"xmp:iid:{uuid.uuid4()}"}
    try:
        builder.add_ingredient(parent, media_type, io.BytesIO(data))
    except c2pa.C2paError as error:
        raise BadRequest(
            f"The credential this file already has cannot be kept: {str(error)[:200]}",
            code="credential_unreadable",
            next_step="Save the image again without its metadata, and stamp that.",
        ) from error


def _manifest(request: CredentialRequest) -> str:
    """The manifest definition the SDK signs. `created`: without it an assertion counts as gathered, not ours."""
    name, version = request.software
    agent = {"name": name, "version": version}
    actions: list[dict[str, Any]]
    if request.intent == "create":
        actions = [{"action": "c2pa.created", "digitalSourceType": AI_MADE, "softwareAgent": agent}]
    else:
        actions = [
            {"action": "c2pa.opened", "parameters": {"ingredientIds": ["parent"]}},
            {"action": "c2pa.edited.metadata", "softwareAgent": agent},
        ]
    contents: dict[str, Mapping[str, Any]] = {"c2pa.actions.v2": {"actions": actions, "allActionsIncluded": True}}
    if request.model is not None:
        contents["c2pa.ai-disclosure"] = {
            "modelType": "c2pa.types.model",
            "modelName": request.model.name,
            "modelIdentifier": request.model.identifier,
            "contentProfile": {"humanOversightLevel": request.model.human_oversight},
        }
    contents[LEDGER_ASSERTION] = request.ledger
    if request.attribution is not None:
        contents[ATTRIBUTION_ASSERTION] = request.attribution
    if request.iscc is not None:
        contents["c2pa.soft-binding"] = {"alg": "io.iscc.v0", "blocks": [{"scope": {}, "value": request.iscc}]}
    if request.training_use is not None:
        uses = ("ai_generative_training", "ai_inference", "ai_training", "data_mining")
        contents["cawg.training-mining"] = {"entries": {f"cawg.{use}": {"use": request.training_use} for use in uses}}
    definition: dict[str, Any] = {
        "label": request.manifest_urn,
        "claim_version": 2,
        "claim_generator_info": [{"name": "Lawful Ledger", "version": VERSION, "specVersion": SPECIFICATION}],
        "assertions": [{"label": label, "created": True, "data": content} for label, content in contents.items()],
    }
    if request.thumbnail is not None:
        definition["thumbnail"] = {"format": "image/jpeg", "identifier": "thumbnail.jpg"}
    return json.dumps(definition)


def _signs_without_timestamp(
    data: bytes, media_type: str, request: CredentialRequest, key: CredentialKey, root_pem: str
) -> bool:
    try:
        _sign(data, media_type, request, key, None, root_pem)
    except c2pa.C2paError:
        return False
    return True


@lru_cache(maxsize=4)
def _context(root_pem: str) -> c2pa.Context:
    settings = {
        **NO_NETWORK,
        "trust": {"user_anchors": root_pem, "trust_config": TRUST_CONFIG},
        "builder": {"thumbnail": {"enabled": False}},
    }
    return c2pa.Context.from_dict(settings)


@contextmanager
def _signer(key: CredentialKey, tsa_url: str | None) -> Iterator[c2pa.Signer]:
    """The SDK's signer over any key. It swallows what its callback raises, so that is kept and raised afterwards."""
    refused: list[LedgerError] = []

    def sign(message: bytes) -> bytes:
        try:
            return key.key.sign(message)
        except LedgerError as error:
            refused.append(error)
            raise

    # tsa_url None means none; an empty one would be taken for an address
    signer = c2pa.Signer.from_callback(sign, c2pa.C2paSigningAlg.ES256, key.certificates_pem, tsa_url or None)
    try:
        with signer:
            yield signer
    except c2pa.C2paError as error:
        if refused:
            raise refused[0] from error
        raise
