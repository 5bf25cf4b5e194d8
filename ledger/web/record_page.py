"""The page of a record: one sentence, six answers about its file, what it stands closest to, and then everything."""

import re
import uuid
from typing import Annotated, Any, NamedTuple

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.response import Redirect, Template
from sqlalchemy.orm import Session

from attribution.evidence import Evidence
from ledger import jobs, lookup
from ledger.claims import views
from ledger.claims.views import ClaimLine
from ledger.errors import LedgerError, NotFound
from ledger.lookup import RecordView
from ledger.naming import nameable, names_withdrawn
from ledger.runtime import Runtime
from ledger.trust import anchors, file_trust
from ledger.verify import IssuedLook, look_at_issued
from ledger.web.problems import wants_page
from ledger.web.reading import Records

REFRESH_SECONDS = 2
UNFINISHED = ("accepted", "signed", "sealed")
MANIFEST_CHARS = 64 * 2**10
"""Of a file's manifest, as it is shown; the whole is in the file."""

Named = Annotated[str, QueryParameter(description="A record's id, or the SHA-256 of a file or of its pixels.")]


class Shown(NamedTuple):
    """A record and what its report holds, which is None until it is issued and after it was erased. `withheld`: works
    in it lost *name* since, so that what was signed then is not repeated here."""

    view: RecordView
    made: dict[str, Any]
    evidence: Evidence | None
    withheld: bool
    look: IssuedLook | None
    claims: list[ClaimLine]
    failure: LedgerError | None

    @property
    def manifest(self) -> str | None:
        """The manifest store as JSON, at most MANIFEST_CHARS of it."""
        if self.look is None or self.withheld or not self.look.reading.manifest:
            return None
        return msgspec.json.format(msgspec.json.encode(self.look.reading.manifest)).decode()[:MANIFEST_CHARS]


@get("/r", include_in_schema=False, sync_to_thread=False)
def find_page(name: Named) -> Redirect:
    """Lead whoever typed a hash or an id to its page."""
    return Redirect(f"/r/{_spelled(name)}", status_code=303)


@get("/r/{name:str}", include_in_schema=False, sync_to_thread=True)
def record_page(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], name: FromPath[str]
) -> Template | Redirect | Response[Records] | Response[None]:
    """A record by its id, by its file's SHA-256 or by its pixels'; for programs the same as JSON."""
    with runtime.reading() as session:
        views_found = _named(session, name)
        if not views_found:
            raise NotFound(
                "nothing is recorded here under this hash, which says nothing about how the image was made",
                code="not_recorded",
                next_step="upload the file itself: a copy that was saved again has another hash and may still be found",
            )
        first, others = views_found[0], views_found[1:]
        if first.kind == "verification":
            return Redirect(f"/v/{first.id}", status_code=303)
        vary = {"Vary": "Accept"}
        if not wants_page(request):
            return Response(Records(views_found), media_type=MediaType.JSON, headers=vary)
        if first.state in UNFINISHED and "hx-request" in request.headers:  # nothing new: what is shown stays
            return Response(None, status_code=204, headers=vary)
        shown = _shown(runtime, session, first)
    base = runtime.settings.public_url.rstrip("/")
    context: dict[str, Any] = {
        "shown": shown,
        "others": others,
        "base": base,
        "seconds": REFRESH_SECONDS,
        "asked": name.lower(),
    }
    context["waiting"] = first.state in UNFINISHED
    return Template("record.html", context=context, headers=vary)


def _spelled(name: str) -> str:
    """What was typed, as an address has it: no spaces and no slash, whatever was pasted along."""
    kept = re.sub(r"[^0-9a-z-]", "", name.strip().lower().removeprefix("sha256:"))
    return kept[:100] or "-"


def _named(session: Session, name: str) -> list[RecordView]:
    try:
        record_id = uuid.UUID(name)
    except ValueError:
        return lookup.find_any(session, name.lower())
    return [lookup.by_id(session, record_id)]


def _shown(runtime: Runtime, session: Session, view: RecordView) -> Shown:
    claims = views.newest_claims(session, about=uuid.UUID(view.id))
    if view.state != "issued" or view.redacted:
        failure = _failure(runtime, view)
        withheld = failure is not None and view.blocked is not None and names_withdrawn(session, failure.detail)
        return Shown(view, {}, None, withheld, None, claims, failure)
    body, key = lookup.report_and_file(session, uuid.UUID(view.id))
    report = msgspec.json.decode(body)
    signed = msgspec.convert(report["evidence"], Evidence)
    evidence = nameable(session, signed)
    look = look_at_issued(
        runtime.storage.get(key),
        view,
        session=session,
        anchors_pem=anchors(runtime),
        trust=file_trust(runtime),
        now=runtime.clock(),
    )
    return Shown(view, report["made"], evidence, evidence is not signed, look, claims, None)


def _failure(runtime: Runtime, view: RecordView) -> LedgerError | None:
    if view.state != "abandoned":
        return None
    try:
        jobs.wait(runtime.reading, uuid.UUID(view.id), 0)
    except LedgerError as error:
        return error
    return None
