"""What may be signed is described, and what is described stands in docs/log.md for whoever reads a log from outside."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from attribution import gate
from attribution.evidence import Evidence, Identity, Match
from ledger.log.statement_types import TYPES, Blocked, Described, describe
from ledger.log.statements import StatementError

PAGE = (Path(__file__).parents[3] / "docs" / "log.md").read_text(encoding="utf-8")
BLOCKED: dict[str, Any] = {
    "type": "lawful-ledger/blocked/1",
    "record_id": "019b79cb-1c80-7000-8000-000000000004",
    "kind": "stamp",
    "created_at": "2026-01-01T12:00:00+00:00",
    "commitments": {"pixels": "00" * 32, "evidence": "11" * 32},
    "reasons": ["identical_work"],
    "policy": {"identity": "block", "copy": "warn", "refused": "warn", "alpha": "0.001"},
    "model": None,
    "snapshot": None,
}


def rows() -> dict[str, str]:
    """type → the cell of its fields, from the table of types."""
    found = {}
    for line in re.findall(r"^\| `.*/1` \|.*$", PAGE, re.MULTILINE):
        names, _, fields = (cell.strip() for cell in line.strip("|").split("|"))
        found |= {f"lawful-ledger/{name}": fields for name in re.findall(r"`([^`]+)`", names)}
    return found


def top_level(described: type[Described]) -> Iterator[str]:
    info = inspect.type_info(described)
    assert isinstance(info, inspect.StructType)
    for field in info.fields:
        yield field.encode_name


def test_every_type_is_in_the_table_and_no_other() -> None:
    assert set(rows()) == {described.__struct_config__.tag for described in TYPES}


@pytest.mark.parametrize("described", TYPES, ids=lambda each: each.__name__)
def test_every_field_of_a_type_is_in_its_row(described: type[Described]) -> None:
    row = rows()[str(described.__struct_config__.tag)]
    assert [name for name in top_level(described) if f"`{name}`" not in row] == []


# ---- a refusal -------------------------------------------------------------------------------------------------------


def test_a_refusal_as_the_ledger_writes_it_is_described() -> None:
    assert isinstance(describe(BLOCKED), Blocked)


@pytest.mark.parametrize(
    "changed",
    [
        {"reasons": []},
        {"reasons": ["copy_of_Wheat_Field"]},
        {"reasons": ["copy_not_judged"]},
        {"policy": BLOCKED["policy"] | {"alpha": "Vincent"}},
        {"policy": BLOCKED["policy"] | {"copy": "ask the artist"}},
        {"work_id": "019b79cb-1c80-7000-8000-000000000005"},
        {"commitments": {"pixels": "00" * 32}},
    ],
    ids=str,
)
def test_a_refusal_that_says_more_or_less_is_not_signed(changed: dict[str, Any]) -> None:
    with pytest.raises(StatementError) as refusal:
        describe(BLOCKED | changed)
    assert refusal.value.code == "statement_undescribed"


def test_the_reasons_that_can_block_are_the_gates_own() -> None:
    listed = msgspec.inspect.type_info(Blocked)
    assert isinstance(listed, inspect.StructType)
    (reasons,) = (field.type for field in listed.fields if field.name == "reasons")
    assert isinstance(reasons, inspect.ListType)
    assert isinstance(reasons.item_type, inspect.LiteralType)
    assert set(reasons.item_type.values) == {gate.IDENTICAL, gate.COPY, gate.REFUSED}


@given(st.floats(min_value=0, max_value=0.05, exclude_min=True))
def test_every_error_rate_that_can_be_set_can_be_logged(alpha: float) -> None:
    work = Match(work_id=None, artist_id=None, artist=None, title="a work", by="file_sha256")
    evidence = Evidence(statement="", identity=Identity(works=[work]))
    for decision in get_args(gate.Decision):
        decided = gate.decide(evidence, refused=True, policy=gate.GatePolicy(identity=decision, alpha=alpha))
        describe(BLOCKED | {"reasons": decided.reasons, "policy": decided.policy})
