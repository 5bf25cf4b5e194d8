"""What the tests of `lawful audit` share: a foreign log of a thousand entries, and one look at it."""

import json
from pathlib import Path
from typing import Any

from ledger.audit.auditor import Reading
from ledger.audit.fetch import HttpLog
from ledger.audit.trust import Trust
from ledger.audit.watch import Auditor, Told

from .foreign_log import Log, Server

ORIGIN = "log.example.org/2026"
PREFIX = "/some/where/2026/"
NOW = 1_800_000_000.0


def numbered(start: int, end: int) -> list[bytes]:
    return [b"entry %d" % i for i in range(start, end)]


def look(
    server: Server,
    log: Log,
    state: Path | None,
    reading: Reading = Reading(),  # noqa: B008 - frozen
    max_age: float | None = None,
    now: float = NOW,
    **trust: Any,
) -> Told:
    with HttpLog(server.url) as http:
        chosen = Trust.of([log.key.vkey], **trust)
        return Auditor(http, chosen, state, reading, max_age, clock=lambda: now).once()


def codes(told: Told) -> list[str]:
    return [finding.code for finding in told.report.findings]


def held(state: Path, told: Told, code: str) -> dict[str, Any]:
    """The finding is this one alone, the state stays, the evidence is kept: returned."""
    assert codes(told) == [code]
    assert not told.report.consistent
    assert not told.state_moved
    [path] = told.evidence
    evidence = json.loads(Path(path).read_text())
    assert (evidence["code"], Path(path).parent) == (code, state.parent)
    return evidence


def after_an_audit(server: Server, log: Log, state: Path) -> bytes:
    assert codes(look(server, log, state)) == []
    return state.read_bytes()
