"""Whoever reads a finding's code can look it up."""

import re
from pathlib import Path

import ledger.audit
from ledger.audit.watch import Metrics

ROOM = Path(ledger.audit.__file__).parent
SOURCES = sorted(ROOM.glob("*.py"))
PAGE = (ROOM.parents[1] / "docs" / "audit.md").read_text(encoding="utf-8")


def test_every_finding_is_explained() -> None:
    found = {
        code
        for source in SOURCES
        for code in re.findall(r"Finding\(\s*\"(\w+)\"", source.read_text(encoding="utf-8"))
        + re.findall(r"code=\"(statement_\w+|announcement_\w+)\"", source.read_text(encoding="utf-8"))
    }
    assert len(found) > 20
    assert {code for code in found if f"`{code}`" not in PAGE} == set()


def test_every_metric_is_explained() -> None:
    names = {metric.name for metric in Metrics().registry.collect()}
    assert len(names) == 7
    assert {name for name in names if name not in PAGE} == set()
