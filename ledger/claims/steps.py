"""How a claim moves: one table, which the code obeys and from which the database's own check is made. Pure.

opened ──examine──▶ examined ──decide──▶ decided ──answer──▶ answered ──close──▶ closed
                       ▲                    │  └───────────────│───────────────▶ closed
                       └─examine── appealed ◀────────appeal────┘
any of them but closed ──withdraw──▶ withdrawn
"""

from typing import Literal, NamedTuple

from ledger.errors import Conflict, NotAllowed

State = Literal["opened", "examined", "decided", "answered", "appealed", "closed", "withdrawn"]
Event = Literal["open", "examine", "decide", "answer", "appeal", "close", "withdraw"]
Role = Literal["claimant", "submitter", "operator", "ledger"]
"""`submitter`: whoever put the image on record, the other side. `ledger`: its rules, without anybody's doing."""


class Transition(NamedTuple):
    """`before` is None for the step that makes the claim."""

    before: State | None
    event: Event
    state: State
    roles: tuple[Role, ...]


_EITHER: tuple[Role, ...] = ("claimant", "submitter", "operator")
_OTHER: tuple[Role, ...] = ("submitter", "operator")
_CLOSER: tuple[Role, ...] = ("operator", "ledger")

TRANSITIONS: tuple[Transition, ...] = (
    Transition(None, "open", "opened", ("claimant", "operator")),
    Transition("opened", "examine", "examined", ("ledger",)),
    Transition("examined", "decide", "decided", ("ledger",)),
    Transition("decided", "answer", "answered", _OTHER),
    Transition("decided", "appeal", "appealed", _EITHER),
    Transition("answered", "appeal", "appealed", _EITHER),
    Transition("appealed", "examine", "examined", ("ledger",)),
    Transition("decided", "close", "closed", _CLOSER),
    Transition("answered", "close", "closed", _CLOSER),
    Transition("opened", "withdraw", "withdrawn", ("claimant",)),
    Transition("examined", "withdraw", "withdrawn", ("claimant",)),
    Transition("decided", "withdraw", "withdrawn", ("claimant",)),
    Transition("answered", "withdraw", "withdrawn", ("claimant",)),
    Transition("appealed", "withdraw", "withdrawn", ("claimant",)),
)

ENDED: tuple[State, ...] = ("closed", "withdrawn")
WAITING: tuple[State, ...] = ("opened", "examined", "appealed")
"""What the ledger itself has to move on."""


def after(before: State | None, event: Event, role: Role) -> State:
    """The state that `event` by `role` leads to. Raises Conflict `claim_not_now`, NotAllowed `claim_not_yours`."""
    for each in TRANSITIONS:
        if (each.before, each.event) == (before, event):
            if role not in each.roles:
                raise NotAllowed(
                    f"{event}: that is for the {' or the '.join(each.roles)}, not for the {role}",
                    code="claim_not_yours",
                    next_step="the claim's page says whose turn it is",
                )
            return each.state
    raise Conflict(
        f"{event}: the claim is {before}",
        code="claim_not_now",
        next_step=f"it can now: {', '.join(events(before)) or 'nothing more, it has ended'}",
    )


def events(before: State | None) -> list[Event]:
    """What can happen to a claim in this state."""
    return [each.event for each in TRANSITIONS if each.before == before]


def check_sql() -> str:
    """The table as a CHECK over the columns before, event, state and by_role."""
    allowed = [
        f"('{each.before or ''}', '{each.event}', '{each.state}', '{role}')"
        for each in TRANSITIONS
        for role in each.roles
    ]
    return f"(coalesce(before, ''), event, state, by_role) IN ({', '.join(allowed)})"
