"""A record's card: a piece of HTML for other people's pages. No script, no style, no picture, nothing loaded."""

import uuid

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Template

from attribution.evidence import Evidence
from ledger import lookup
from ledger.errors import NotFound
from ledger.naming import nameable
from ledger.runtime import Runtime
from ledger.web.log import ANYWHERE
from ledger.web.problems import problems

ALONE = {"Content-Security-Policy": "default-src 'none'; sandbox"}
"""Opened by itself it is a page without a frame; it must do as little there."""


@get(
    "/v1/records/{record_id:uuid}/card",
    sync_to_thread=True,
    tags=["Reading"],
    summary="The record's card, as HTML to embed",
    response_description="An `article` to put into a page as it is.",
    responses=problems(404),
)
def read_card(runtime: NamedDependency[Runtime], record_id: FromPath[uuid.UUID]) -> Template:
    """What the report says in one sentence, without names that were withdrawn since, with what the image was made, and
    where to check it. What a submitter wrote is escaped. A card proves nothing: anybody can write one."""
    with runtime.reading() as session:
        view = lookup.by_id(session, record_id)
        if view.state != "issued" or view.redacted or view.log is None:
            raise NotFound(
                f"no card for {record_id}",
                code="card_unknown",
                next_step="ask /v1/records/{id} how far the record is, and whether its content was deleted",
            )
        report = msgspec.json.decode(lookup.report(session, record_id))
        evidence = nameable(session, msgspec.convert(report["evidence"], Evidence))
    context = {
        "view": view,
        "made": report["made"],
        "statement": evidence.statement,
        "base": runtime.settings.public_url.rstrip("/"),
    }
    headers = ANYWHERE | ALONE | {"Cache-Control": "no-cache"}  # it may be erased
    return Template("card.html", context=context, headers=headers)
