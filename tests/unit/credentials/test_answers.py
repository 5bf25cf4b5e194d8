"""The table from codes to answers: what each kind of code may and may not change."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.credentials.answers import FAILURES, Answers, all_codes, answer

SIGNED = ["claimSignature.validated", "assertion.hashedURI.match", "assertion.dataHash.match"]


def judge(*failures: str, success: list[str] | None = None, **results: Any) -> Answers:
    succeeded = [{"code": code} for code in (SIGNED if success is None else success)]
    active = {"success": succeeded, "informational": [], "failure": [{"code": code} for code in failures]}
    return answer({"activeManifest": active, **results}, {"urn:c2pa:1": {}}, "urn:c2pa:1")


def test_integrity_says_nothing_about_who() -> None:
    assert judge("signingCredential.untrusted") == Answers("intact", "valid", "unknown", "none")


def test_trust_is_said_only_where_the_reader_said_it() -> None:
    assert judge(success=[*SIGNED, "signingCredential.trusted"]).signer == "trusted"
    assert judge().signer == "unknown"


@pytest.mark.parametrize("code", [code for code, effect in FAILURES.items() if effect == "altered"])
def test_altered_content_leaves_signature_and_signer_as_they_are(code: str) -> None:
    assert judge(code) == Answers("altered", "valid", "unknown", "none")


@pytest.mark.parametrize("code", [code for code, effect in FAILURES.items() if effect == "expired"])
def test_expiry_is_not_tampering(code: str) -> None:
    assert judge(code, "signingCredential.untrusted") == Answers("intact", "expired", "not_checked", "none")


@pytest.mark.parametrize("code", [code for code, effect in FAILURES.items() if effect == "invalid"])
def test_an_invalid_signature_vouches_for_nothing(code: str) -> None:
    assert judge(code) == Answers("not_checked", "invalid", "not_checked", "none")


@pytest.mark.parametrize("code", [code for code, effect in FAILURES.items() if effect == "nothing"])
def test_a_useless_timestamp_is_as_none(code: str) -> None:
    assert judge(code) == judge()


@pytest.mark.parametrize("code", ["general.error", "assertion.action.malformed", "com.example.code-of-tomorrow"])
def test_a_code_we_cannot_weigh_is_neither_intact_nor_altered(code: str) -> None:
    assert judge(code).content == "not_checked"


def test_without_a_hard_binding_nothing_is_intact() -> None:
    assert judge(success=["claimSignature.validated"]).content == "not_checked"


def test_without_a_checked_signature_nothing_is_valid_or_intact() -> None:
    assert judge(success=["assertion.dataHash.match"]) == Answers(ingredients="none")


def test_every_code_is_kept_once() -> None:
    results = {
        "activeManifest": {"success": [{"code": "b"}, {"code": "a"}], "failure": [{"code": "c"}]},
        "ingredientDeltas": [{"validationDeltas": {"failure": [{"code": "d"}, {"code": "a"}]}}],
    }
    assert all_codes(results, {}) == ["a", "b", "c", "d"]


def test_a_breach_recorded_deep_in_the_ancestry_is_found() -> None:
    grandparent = {"validation_results": {"activeManifest": {"failure": [{"code": "assertion.dataHash.mismatch"}]}}}
    manifests = {"1": {"ingredients": [{"active_manifest": "2"}]}, "2": {"ingredients": [grandparent]}}
    results = {"activeManifest": {"success": [{"code": code} for code in SIGNED]}}
    assert answer(results, manifests, "1").ingredients == "broken"


def test_a_breach_recorded_in_the_old_form_is_found() -> None:
    old = {"validation_status": [{"code": "assertion.dataHash.mismatch"}]}
    assert answer({}, {"1": {"ingredients": [old]}}, "1").ingredients == "broken"


KEYS = ["activeManifest", "ingredientDeltas", "validationDeltas", "success", "failure", "informational", "code"]
KEYS += ["ingredients", "validation_results", "validation_status", "1"]
anything = st.recursive(
    st.none() | st.integers() | st.sampled_from(["", *FAILURES, *SIGNED]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from(["activeManifest", "ingredientDeltas", "1", "2"]), anything, max_size=4)


@given(objects, objects)
def test_any_shape_of_json_gets_an_answer(results: dict[str, Any], manifests: dict[str, Any]) -> None:
    found = answer(results, manifests, "1")
    assert found.signer != "trusted" or found.signature == "valid"
    assert all_codes(results, manifests) == sorted(set(all_codes(results, manifests)))
