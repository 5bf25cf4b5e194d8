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


def refusal(gate: Gate | None) -> Conflict | None:
    """The error `near_copy_blocked` for whoever asked, final; None for what may be issued, with a warning or without.

    `ledger.abandonment.refuse_blocked` says it to the log as well; a warning stands in the report that is signed.
    """
    if gate is None or gate.decision != "block":
        return None
    why = gate.text[:1].lower() + gate.text[1:].rstrip(".")
    return Conflict(
        f"{why}; reasons: {', '.join(gate.reasons)}",
        code="near_copy_blocked",
        next_step="make or send another image, or ask the artist: the same request will be refused again;"
        " an operator sets what is refused with LAWFUL_GATE_IDENTITY, LAWFUL_GATE_COPY and LAWFUL_GATE_REFUSED",
    )
