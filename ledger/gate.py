"""The near-copy gate of this ledger: the policy of its settings, and what a block means for a record."""

from attribution.evidence import Gate
from attribution.gate import GatePolicy
from ledger.errors import Conflict
from ledger.settings import Settings


def policy_of(settings: Settings) -> GatePolicy:
    """What the operator set, for `attribution.engine`; what it came to is written into the evidence."""
    return GatePolicy(
        identity=settings.gate_identity,
        copy=settings.gate_copy,
        refused=settings.gate_refused,
        alpha=settings.gate_alpha,
    )


def refuse_blocked(gate: Gate | None) -> None:
    """Let allowed and warned images pass; the warning stands in the report that is signed.

    Raises Conflict `near_copy_blocked`, which is final: whoever catches it abandons the record with these words.
    `ledger.issue.sign` asks before anything of the image is stored, logged or signed.
    """
    if gate is None or gate.decision != "block":
        return
    why = gate.text[:1].lower() + gate.text[1:].rstrip(".")
    raise Conflict(
        f"{why}; reasons: {', '.join(gate.reasons)}",
        code="near_copy_blocked",
        next_step="make or send another image, or ask the artist: the same request will be refused again;"
        " an operator sets what is refused with LAWFUL_GATE_IDENTITY, LAWFUL_GATE_COPY and LAWFUL_GATE_REFUSED",
    )
