"""How a claim moves, as a table: every pair of state and event is tried, by everybody."""

import itertools
from typing import get_args

import pytest

from ledger.claims.steps import ENDED, TRANSITIONS, WAITING, Event, Role, State, after, check_sql, events
from ledger.errors import Conflict, NotAllowed

ALL = list(itertools.product((None, *get_args(State)), get_args(Event), get_args(Role)))


def test_the_life_of_a_claim_is_the_one_of_the_issue() -> None:
    state: State | None = None
    for event, role in (
        ("open", "claimant"),
        ("examine", "ledger"),
        ("decide", "ledger"),
        ("answer", "submitter"),
        ("close", "operator"),
    ):
        state = after(state, event, role)  # type: ignore[arg-type]
    assert state == "closed"


def test_what_the_table_does_not_name_is_refused() -> None:
    named = {(each.before, each.event, role) for each in TRANSITIONS for role in each.roles}
    possible = {(each.before, each.event) for each in TRANSITIONS}
    for before, event, role in ALL:
        if (before, event, role) in named:
            after(before, event, role)
            continue
        with pytest.raises(NotAllowed if (before, event) in possible else Conflict) as refused:
            after(before, event, role)
        assert refused.value.code == ("claim_not_yours" if (before, event) in possible else "claim_not_now")


def test_nothing_happens_to_a_claim_that_has_ended() -> None:
    assert [events(state) for state in ENDED] == [[], []]


def test_nobody_but_the_ledger_examines_and_decides() -> None:
    assert {each.roles for each in TRANSITIONS if each.event in {"examine", "decide"}} == {("ledger",)}


def test_a_decision_is_only_made_of_an_examination() -> None:
    assert [each.before for each in TRANSITIONS if each.event == "decide"] == ["examined"]


def test_every_state_that_waits_for_the_ledger_can_be_moved_on_by_it() -> None:
    for state in WAITING:
        assert any(each.before == state and each.roles == ("ledger",) for each in TRANSITIONS)


def test_each_pair_of_state_and_event_leads_to_one_state() -> None:
    pairs = [(each.before, each.event) for each in TRANSITIONS]
    assert len(set(pairs)) == len(pairs)


def test_the_databases_check_names_every_step_and_who_may_take_it() -> None:
    assert check_sql().count("', '") == 3 * sum(len(each.roles) for each in TRANSITIONS)
