"""The gate: which reasons count, that the strictest decides, and that no error rate is claimed that is not there."""

from itertools import product
from typing import Any

import pytest

from attribution.evidence import (
    PROTECTED_WORK,
    Area,
    CalibrationNote,
    CopyAxis,
    CopyMatch,
    Evidence,
    Identity,
    Match,
)
from attribution.gate import Decision, GatePolicy, counted, decide

DECISIONS: tuple[Decision, ...] = ("allow", "warn", "block")
WHOLE = Area(corners=[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])


def match(p_value: float | None, **changes: Any) -> CopyMatch:
    values = {
        "work_id": "w", "artist_id": "a", "artist": "Y", "title": "X", "score": 1.0, "p_value": p_value, "details": 9,
        "of_image": WHOLE, "of_work": WHOLE, "mirrored": False,
    }  # fmt: skip
    return CopyMatch(**values | changes)  # type: ignore[arg-type]


def evidence(*p_values: float | None, n: int = 9999, identical: bool = False, **changes: Any) -> Evidence:
    note = CalibrationNote(n=n, method="m", smallest_p=1 / (n + 1), text="")
    same = [Match(work_id="w", artist_id="a", artist="Y", title="X", by="pixel_sha256")] if identical else []
    return Evidence(
        statement="",
        identity=Identity(works=same),
        copy=CopyAxis(method="m", searched=9, matches=[match(p, **changes) for p in p_values], calibration=note),
    )


def test_an_image_like_nothing_is_allowed_without_a_word() -> None:
    gate = decide(Evidence(statement=""), refused=False, policy=GatePolicy())
    assert (gate.decision, gate.reasons, gate.text) == ("allow", [], "")
    assert gate.policy == {"identity": "warn", "copy": "warn", "refused": "warn", "alpha": "0.001"}


@pytest.mark.parametrize(("identity", "copy", "refused"), list(product(DECISIONS, repeat=3)))
def test_the_strictest_of_the_reasons_decides(identity: Decision, copy: Decision, refused: Decision) -> None:
    policy = GatePolicy(identity=identity, copy=copy, refused=refused)
    gate = decide(evidence(0.0001, identical=True), refused=True, policy=policy)
    assert gate.reasons == ["identical_work", "copy_of_work", "artist_refused"]
    assert gate.decision == max((identity, copy, refused), key=DECISIONS.index)


def test_a_copy_counts_from_the_policys_error_rate_on() -> None:
    strict = GatePolicy(copy="block", alpha=0.001)
    assert decide(evidence(0.001), refused=False, policy=strict).decision == "block"
    assert decide(evidence(0.0011), refused=False, policy=strict).reasons == []
    assert decide(evidence(0.0011), refused=False, policy=GatePolicy(copy="block", alpha=0.01)).decision == "block"


def test_a_refusal_counts_beside_a_copy_and_never_alone() -> None:
    policy = GatePolicy(copy="allow", refused="block")
    assert decide(evidence(0.5), refused=True, policy=policy).decision == "allow"
    blocked = decide(evidence(0.0001), refused=True, policy=policy)
    assert blocked.decision == "block"
    assert blocked.reasons == ["copy_of_work", "artist_refused"]
    assert blocked.text.startswith("This ledger's policy does not issue this image: an artist whose work it repeats")
    assert "“X”" not in blocked.text, "what the policy allows is not what it was stopped for"


def test_whoever_tells_of_refusals_learns_which_matches_count() -> None:
    of = evidence(0.0001, None, 0.0005, 0.2)
    assert of.copy is not None
    assert counted(of.copy, 0.001) == [of.copy.matches[0], of.copy.matches[2]]
    assert counted(None, 0.001) == []


@pytest.mark.parametrize(("p_value", "n"), [(1 / 46, 45), (None, 9999)])
def test_too_small_a_calibration_warns_and_never_blocks(p_value: float | None, n: int) -> None:
    of = evidence(p_value, n=n)
    if p_value is None:
        of = Evidence(statement="", copy=CopyAxis(method="m", searched=9, matches=[match(None)]))
    gate = decide(of, refused=True, policy=GatePolicy(copy="block", refused="block"))
    assert (gate.decision, gate.reasons) == ("warn", ["copy_not_judged"])
    assert "too few images to calibrate on" in gate.text
    assert decide(of, refused=False, policy=GatePolicy(copy="allow")).decision == "allow"


def test_a_poor_match_on_a_small_calibration_is_no_reason() -> None:
    assert decide(evidence(0.4, n=45), refused=False, policy=GatePolicy(copy="block")).reasons == []


def test_the_text_says_what_is_copied_with_its_error_rate() -> None:
    gate = decide(evidence(0.0001, 0.0002), refused=False, policy=GatePolicy(copy="block"))
    assert gate.text == (
        "This ledger's policy does not issue this image: it or a part of it is a copy of “X” by Y, and of 1 more work"
        " (an image that copies nothing reaches this in at most 1 of 10,000)."
    )
    warned = decide(evidence(identical=True), refused=True, policy=GatePolicy())
    assert warned.text == (
        "Issued with a warning: it is “X” by Y, pixel for pixel; an artist whose work it repeats has not agreed that"
        " generators learn from it."
    )


def test_a_protected_work_guards_without_being_named() -> None:
    hidden: dict[str, Any] = {
        "work_id": None,
        "artist_id": None,
        "artist": None,
        "title": PROTECTED_WORK,
        "protected": True,
    }
    gate = decide(evidence(0.0001, **hidden), refused=True, policy=GatePolicy(copy="block"))
    assert gate.decision == "block"
    assert f"a copy of {PROTECTED_WORK} (" in gate.text
