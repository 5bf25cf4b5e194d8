"""The near-copy gate: what the policy in force makes of the evidence before an image is finalised. Light.

What it does not do: an image that passes copies nothing *that was found*; the copy axis has measured miss rates, and a
work that is not in the collection, or may not be compared, guards nothing.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from attribution.evidence import CopyAxis, CopyMatch, Evidence, Gate
from attribution.wording import chance_of, count, credit

Decision = Literal["allow", "warn", "block"]

IDENTICAL, COPY, REFUSED, NOT_JUDGED = "identical_work", "copy_of_work", "artist_refused", "copy_not_judged"
"""The stable codes of `Gate.reasons`."""

_SEVERITY: Mapping[Decision, int] = {"allow": 0, "warn": 1, "block": 2}


class GatePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from each reason. `alpha`: a copy counts when its p-value is at most this, in (0, 1)."""

    identity: Decision = "warn"
    copy: Decision = "warn"
    refused: Decision = "warn"
    alpha: float = 0.001


def counted(axis: CopyAxis | None, alpha: float) -> list[CopyMatch]:
    """Those of the matches, in their order, that are copies to the gate: with an error rate of at most `alpha`.

    For whoever tells `decide` of refusals: a refusal counts by these works and by the identical ones, not by others.
    """
    return (
        []
        if axis is None
        else [match for match in axis.matches if match.p_value is not None and match.p_value <= alpha]
    )


def decide(evidence: Evidence, refused: bool, policy: GatePolicy) -> Gate:
    """Return allow, warn or block; where several reasons hold, the strictest of their decisions.

    `refused`: the artist of an identical work, or of one in `counted`, does not grant *train*. It is told from outside,
    since a protected work shows no artist here, and it never counts alone. Reasons are listed even where the policy
    allows them. Where matches have no error rate as small as `alpha` (too few images to calibrate on), nothing is
    blocked by them: `copy_not_judged` warns, unless the policy allows copies.
    """
    copies = counted(evidence.copy, policy.alpha)
    reasons: dict[str, Decision] = {}
    if evidence.identity.works:
        reasons[IDENTICAL] = policy.identity
    if copies:
        reasons[COPY] = policy.copy
    elif not evidence.identity.works and _not_judged(evidence.copy, policy.alpha):
        reasons[NOT_JUDGED] = "allow" if policy.copy == "allow" else "warn"
    if refused and (evidence.identity.works or copies):
        reasons[REFUSED] = policy.refused
    decision: Decision = max(reasons.values(), key=_SEVERITY.__getitem__, default="allow")
    weighty = [reason for reason in reasons if reasons[reason] == decision]
    return Gate(
        decision=decision,
        reasons=list(reasons),
        text="" if decision == "allow" else _text(decision, weighty, evidence, copies),
        policy={
            "identity": policy.identity,
            "copy": policy.copy,
            "refused": policy.refused,
            "alpha": f"{policy.alpha:g}",
        },
    )


def _not_judged(axis: CopyAxis | None, alpha: float) -> bool:
    """Is there a match as good as can be told, where that is not good enough for `alpha`?"""
    if axis is None:
        return False
    reach = axis.calibration.smallest_p if axis.calibration is not None else 1.0
    return reach > alpha and any(match.p_value is None or match.p_value <= reach for match in axis.matches)


def _text(decision: Decision, reasons: list[str], evidence: Evidence, copies: list[CopyMatch]) -> str:
    """What whoever asked for the image is told: why, in one sentence after what was done."""
    said = []
    if IDENTICAL in reasons:
        first = evidence.identity.works[0]
        said.append(f"it is {credit(first.title, first.artist)}, pixel for pixel")
    elif COPY in reasons:
        best = copies[0]
        more = f", and of {count(len(copies) - 1, 'more work')}" if len(copies) > 1 else ""
        rate = f"an image that copies nothing reaches this in {chance_of(best.p_value or 1.0)}"
        said.append(f"it or a part of it is a copy of {credit(best.title, best.artist)}{more} ({rate})")
    if REFUSED in reasons:
        said.append("an artist whose work it repeats has not agreed that generators learn from it")
    if NOT_JUDGED in reasons:
        said.append("it may be a copy, and there are too few images to calibrate on to tell at the policy's error rate")
    what = "This ledger's policy does not issue this image" if decision == "block" else "Issued with a warning"
    return f"{what}: {'; '.join(said)}."
