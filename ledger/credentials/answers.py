"""From validation codes to five answers: one table, so that no verdict is decided anywhere else.

Codes: C2PA specification 2.4, chapter 15 (success, informational and failure codes), as c2pa-rs 0.91 reports them.

    content      intact | altered | not_checked   do the bytes and statements match what was signed?
    signature    valid | invalid | expired | not_checked   did the holder of the certificate sign this claim, in time?
    signer       trusted | unknown | not_checked   is that certificate under a root the checker chose?
    ingredients  none | intact | broken | not_checked   the same two questions, for everything it was made from

Integrity and trust are apart: an unknown signer never makes content altered, nor does expiry. What the answers do not
prove: that what a signer states is true.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Content = Literal["intact", "altered", "not_checked"]
Signature = Literal["valid", "invalid", "expired", "not_checked"]
Signer = Literal["trusted", "unknown", "not_checked"]
Ingredients = Literal["none", "intact", "broken", "not_checked"]

Effect = Literal["altered", "invalid", "expired", "unknown", "broken", "unchecked", "nothing"]

HARD_BINDING_MATCHES = frozenset(
    {
        "assertion.dataHash.match",
        "assertion.boxesHash.match",
        "assertion.bmffHash.match",
        "assertion.collectionHash.match",
    }
)

FAILURES: Mapping[str, Effect] = {
    # bytes or statements differ from what was signed
    "assertion.dataHash.mismatch": "altered",
    "assertion.boxesHash.mismatch": "altered",
    "assertion.boxesHash.unknownBox": "altered",
    "assertion.bmffHash.mismatch": "altered",
    "assertion.collectionHash.mismatch": "altered",
    "assertion.collectionHash.incorrectFileCount": "altered",
    "assertion.hashedURI.mismatch": "altered",
    "assertion.missing": "altered",
    "assertion.undeclared": "altered",
    "assertion.notRedacted": "altered",
    "assertion.selfRedacted": "altered",
    "assertion.hardBinding.redacted": "altered",
    "hashedURI.mismatch": "altered",
    # the claim was not signed by the certificate it carries, or by one that may not sign claims
    "claimSignature.mismatch": "invalid",
    "claimSignature.missing": "invalid",
    "claim.missing": "invalid",
    "claim.multiple": "invalid",
    "claim.malformed": "invalid",
    "claim.cbor.invalid": "invalid",
    "claim.required.missing": "invalid",
    "algorithm.unsupported": "invalid",
    "signingCredential.invalid": "invalid",
    "signingCredential.revoked": "invalid",
    "signingCredential.ocsp.revoked": "invalid",
    # signed, but by now, or at the time of its timestamp, outside the certificate's validity
    "signingCredential.expired": "expired",
    "claimSignature.outsideValidity": "expired",
    # nobody the checker knows
    "signingCredential.untrusted": "unknown",
    # what it was made from
    "ingredient.manifest.mismatch": "broken",
    "ingredient.manifest.missing": "broken",
    "ingredient.claimSignature.mismatch": "broken",
    "ingredient.claimSignature.missing": "broken",
    "ingredient.hashedURI.mismatch": "broken",
    "assertion.ingredient.malformed": "broken",
    "manifest.multipleParents": "broken",
    "manifest.update.invalid": "broken",
    "manifest.update.wrongParents": "broken",
    # a timestamp or revocation answer that is no help: as if it were not there
    "timeStamp.mismatch": "nothing",
    "timeStamp.malformed": "nothing",
    "timeStamp.outsideValidity": "nothing",
    "timeStamp.untrusted": "nothing",
    "assertion.timestamp.malformed": "nothing",
    "signingCredential.ocsp.unknown": "nothing",
    "signingCredential.ocsp.inaccessible": "nothing",
    "signingCredential.ocsp.skipped": "nothing",
    # malformed statements: what they say cannot be compared with what was signed
    "assertion.required.missing": "unchecked",
    "assertion.inaccessible": "unchecked",
    "assertion.cbor.invalid": "unchecked",
    "assertion.json.invalid": "unchecked",
    "assertion.action.malformed": "unchecked",
    "assertion.dataHash.malformed": "unchecked",
    "assertion.boxesHash.malformed": "unchecked",
    "assertion.bmffHash.malformed": "unchecked",
    "assertion.collectionHash.malformed": "unchecked",
    "assertion.multipleHardBindings": "unchecked",
    "claim.hardBindings.missing": "unchecked",
    "manifest.inaccessible": "unchecked",
    "manifest.unknownProvenance": "unchecked",
    "general.error": "unchecked",
}
"""Failure codes and what each does to an answer. Any other code is `unchecked`: never intact, never altered."""


@dataclass(frozen=True)
class Answers:
    content: Content = "not_checked"
    signature: Signature = "not_checked"
    signer: Signer = "not_checked"
    ingredients: Ingredients = "not_checked"
    timestamped: bool = False


def answer(results: Mapping[str, Any], manifests: Mapping[str, Any], active: str) -> Answers:
    """Fold the `validation_results` and `manifests` of a reader's JSON into answers. Tolerates any shape of either."""
    own = _status(results.get("activeManifest"))
    effects = {FAILURES.get(code, "unchecked") for code in own.failure}
    if "invalid" in effects:
        signature: Signature = "invalid"
    elif "claimSignature.validated" not in own.success:
        signature = "not_checked"
    else:
        signature = "expired" if "expired" in effects else "valid"

    if "altered" in effects:
        content: Content = "altered"
    elif signature in ("valid", "expired") and "unchecked" not in effects and own.success & HARD_BINDING_MATCHES:
        content = "intact"
    else:  # a hash that matches is worth nothing where nobody signed it
        content = "not_checked"

    signer: Signer = "not_checked"
    if signature == "valid":
        signer = "trusted" if "signingCredential.trusted" in own.success else "unknown"

    ingredients = _ingredients(results, manifests, active)
    if "broken" in effects:
        ingredients = "broken"
    return Answers(content, signature, signer, ingredients, "timeStamp.trusted" in own.success)


def all_codes(results: Mapping[str, Any], manifests: Mapping[str, Any]) -> list[str]:
    """Every raw code of the active manifest and of all ingredients, sorted, each once."""
    found = [_status(results.get("activeManifest")), *(status for status in _ingredient_statuses(results, manifests))]
    return sorted(set().union(*(status.success | status.informational | status.failure for status in found)))


@dataclass(frozen=True)
class _Status:
    success: frozenset[str]
    informational: frozenset[str]
    failure: frozenset[str]


def _status(value: object) -> _Status:
    def codes(kind: str) -> frozenset[str]:
        entries = value.get(kind) if isinstance(value, dict) else None
        return frozenset(_code(entry) for entry in (entries if isinstance(entries, list) else ()))

    return _Status(codes("success"), codes("informational"), codes("failure"))


def _code(entry: object) -> str:
    code = entry.get("code") if isinstance(entry, dict) else None
    return code[:128] if isinstance(code, str) else "general.error"


def _ingredients(results: Mapping[str, Any], manifests: Mapping[str, Any], active: str) -> Ingredients:
    """Walks every ingredient of every manifest in the store: an edit of a tampered parent is itself Trusted."""
    rendered = active in manifests
    if rendered and not any(_ingredients_of(manifests.get(active))) and not results.get("ingredientDeltas"):
        return "none"
    statuses = list(_ingredient_statuses(results, manifests))
    effects = {FAILURES.get(code, "unchecked") for status in statuses for code in status.failure}
    if effects & {"altered", "invalid", "broken"}:
        return "broken"
    unknown = any("ingredient.unknownProvenance" in status.informational for status in statuses)
    if not rendered or unknown or "unchecked" in effects or not any(status.success for status in statuses):
        return "not_checked"
    return "intact"


def _ingredient_statuses(results: Mapping[str, Any], manifests: Mapping[str, Any]) -> Iterator[_Status]:
    """What was found now (deltas), and what whoever added an ingredient found then (recorded with it)."""
    yield from _deltas(results)
    for manifest in manifests.values():
        for ingredient in _ingredients_of(manifest):
            recorded = ingredient.get("validation_results")
            if isinstance(recorded, dict):
                yield _status(recorded.get("activeManifest"))
                yield from _deltas(recorded)
            legacy = ingredient.get("validation_status")  # C2PA 1.x: a list in which failures are the usual content
            if isinstance(legacy, list):
                failed = (_code(entry) for entry in legacy)
                yield _Status(frozenset(), frozenset(), frozenset(code for code in failed if code in FAILURES))


def _deltas(results: Mapping[str, Any]) -> Iterator[_Status]:
    deltas = results.get("ingredientDeltas")
    for delta in deltas if isinstance(deltas, list) else ():
        if isinstance(delta, dict):
            yield _status(delta.get("validationDeltas"))


def _ingredients_of(manifest: object) -> Iterable[Mapping[str, Any]]:
    found = manifest.get("ingredients") if isinstance(manifest, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
