"""The form of a claim's canonical report and of its steps, as types. Readers ignore fields that they do not know.
`docs/reference/claim-report.schema.json` and `/v1/schemas/claim-report` publish the report's.

The report is written by `ledger.claims.deciding`, as a dict in RFC 8785 form.
"""

from typing import Any

import msgspec

from attribution.evidence import Evidence
from ledger.claims.deciding import REPORT_SCHEMA
from ledger.claims.facts import Facts, Kind
from ledger.claims.opening import Opening
from ledger.claims.rules import Decision, Weight
from ledger.errors import BadRequest


class PublishedRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule as it was in force."""

    number: int
    code: str
    weight: Weight
    kinds: list[Kind]
    says: str


class ExaminedIn(msgspec.Struct, frozen=True, kw_only=True):
    """The log, and the leaf hash of the examination that was decided on."""

    origin: str
    examined: str


class ClaimReportBody(msgspec.Struct, frozen=True, kw_only=True):
    """What the logged decision on a claim commits to. What it does not prove is in `not_proven`."""

    schema: str
    claim: Opening
    decision: Decision
    facts: Facts
    evidence: Evidence
    rules: list[PublishedRule]
    log: ExaminedIn
    decided_at: str
    not_proven: list[str]


class LoggedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a claim: its entry (base64), the log's proof, and the document of an answer or an appeal."""

    statement: str
    tlog_proof: str
    document: dict[str, Any] | None = None


def read_claim_report(data: bytes) -> ClaimReportBody:
    """Raises BadRequest `report_malformed` for bytes that are no report of this form."""
    try:
        body = msgspec.json.decode(data, type=ClaimReportBody)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _malformed(f"the report is not of the form {REPORT_SCHEMA}: {str(error)[:200]}") from error
    if body.schema != REPORT_SCHEMA:
        raise _malformed(f"a report of the form {body.schema[:60]!r}; this program reads {REPORT_SCHEMA}")
    return body


def claim_report_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the report."""
    schema = msgspec.json.schema(ClaimReportBody)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": REPORT_SCHEMA,
        "description": "The canonical report of a decided claim, in RFC 8785 form. Ignore unknown fields.",
    } | schema


def read_steps(data: bytes) -> list[LoggedStep]:
    """Raises BadRequest `report_malformed` for bytes that are no list of steps."""
    try:
        return msgspec.json.decode(data, type=list[LoggedStep])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _malformed(f"the claim's steps cannot be read: {str(error)[:200]}") from error


def _malformed(detail: str) -> BadRequest:
    return BadRequest(detail, code="report_malformed", next_step="take a version of lawful-ledger that reads it")
