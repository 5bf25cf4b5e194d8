"""The form of the canonical report, as types; `docs/reference/report.schema.json` and `/v1/schemas/report` publish it.

The report itself is written as a dict in RFC 8785 form by `ledger.reports.build`; what is written there converts to
`ReportBody`, and a test holds the two together. Readers ignore fields that they do not know.
"""

from typing import Any, Literal

import msgspec

from attribution.evidence import Evidence
from ledger.errors import BadRequest

PUBLISHED = "lawful-ledger/report/1"


class ReportedImage(msgspec.Struct, frozen=True, kw_only=True):
    """The image by its pixels. `canonical` names the form whose SHA-256 is `pixel_sha256` (64 hex digits)."""

    canonical: str
    pixel_sha256: str
    iscc: str
    pdq: str
    width: int
    height: int


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """How the image came about, by the word of `by`. `prompt_commitment` is salted; the prompt itself is not here."""

    by: str
    model: dict[str, Any] | None = None
    seed: str | None = None
    parameters: dict[str, Any] | None = None
    prompt_commitment: str | None = None
    declared_model: str | None = None
    model_key_registered: bool | None = None


class ReportBody(msgspec.Struct, frozen=True, kw_only=True):
    """What a record's logged statement commits to. It does not prove authorship, copying or influence: `not_proven`."""

    schema: str
    record_id: str
    kind: Literal["generation", "stamp"]
    created_at: str
    image: ReportedImage
    made: Made
    evidence: Evidence
    not_proven: list[str]


def read_report(data: bytes) -> ReportBody:
    """Raises BadRequest `report_malformed` for bytes that are no report of this form."""
    try:
        body = msgspec.json.decode(data, type=ReportBody)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadRequest(
            f"the report is not of the form {PUBLISHED}: {str(error)[:200]}",
            code="report_malformed",
            next_step="docs/reference/report.schema.json says what a report holds",
        ) from error
    if body.schema != PUBLISHED:
        raise BadRequest(
            f"a report of the form {body.schema[:60]!r}; this program reads {PUBLISHED}",
            code="report_malformed",
            next_step="take a version of lawful-ledger that reads it",
        )
    return body


def report_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the report."""
    schema = msgspec.json.schema(ReportBody)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": PUBLISHED,
        "description": "The canonical report of a Lawful Ledger record, in RFC 8785 form. Ignore unknown fields.",
    } | schema
