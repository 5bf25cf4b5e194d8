"""Claims over HTTP: pages and forms for people, JSON for programs, the right of reply for whoever holds a key."""

import datetime as dt
import uuid
from typing import Annotated, Any

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.concurrency import sync_to_thread
from litestar.datastructures import UploadFile
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Redirect, Template

from ledger.claims import control, examined, moving, opening, replies, rules, views
from ledger.claims.opening import Wish
from ledger.claims.views import ClaimLine, ClaimView
from ledger.database.tables.claims import Claim
from ledger.database.tables.works import Work
from ledger.errors import BadRequest, NotFound
from ledger.reports.claim_schema import claim_report_schema
from ledger.runtime import Runtime
from ledger.web.in_turn import in_turn
from ledger.web.problems import problems, wants_page
from ledger.web.reading import PDF, SCHEMA, ZIP, pdf_answer, zip_answer
from ledger.web.sessions import knows_sign_in
from ledger.web.uploads import too_large
from ledger.web.writing import takes_json

About = Annotated[uuid.UUID | None, QueryParameter(description="Only claims on this record.")]
Before = Annotated[uuid.UUID | None, QueryParameter(description="The last id of the page before: the next older ones.")]
FORM_FIELDS = frozenset({"kind", "about", "claimant", "work_id", "made_on", "words", "file"})


class Claims(msgspec.Struct, frozen=True):
    claims: list[ClaimLine]


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the other side has to say."""

    words: str


# ---- for programs ----------------------------------------------------------------------------------------------------


@get("/v1/claims", tags=["Reading"], summary="Claims, the newest first", responses=problems(422), sync_to_thread=True)
def list_claims(runtime: NamedDependency[Runtime], about: About = None, before: Before = None) -> Claims:
    """Fifty at a time; ids are in the order of time, so none is skipped or repeated."""
    with runtime.reading() as session:
        return Claims(views.newest_claims(session, about=about, before=before))


@get("/v1/claims/rules", tags=["Reading"], summary="The rules that decide claims", sync_to_thread=False)
def read_rules() -> list[dict[str, Any]]:
    """By number, as they are in force; a report repeats those that decided it."""
    return rules.published()


@get(
    "/v1/claims/{claim_id:uuid}",
    tags=["Reading"],
    summary="A claim",
    responses=problems(404),
    sync_to_thread=True,
)
def read_claim(runtime: NamedDependency[Runtime], claim_id: FromPath[uuid.UUID]) -> ClaimView:
    """What is claimed, its steps with their places in the log, and the newest decision."""
    return _view(runtime, claim_id)


@get(
    "/v1/claims/{claim_id:uuid}/report",
    tags=["Reading"],
    summary="A claim's report with its signature",
    responses=problems(404),
    sync_to_thread=True,
)
def read_claim_report(runtime: NamedDependency[Runtime], claim_id: FromPath[uuid.UUID]) -> dict[str, Any]:
    """The report, the statement that commits to it (by the report's RFC 8785 form), salt and proof of inclusion."""
    with runtime.reading() as session:
        return views.signed_report(session, runtime, claim_id)


@get(
    "/v1/claims/{claim_id:uuid}/report.pdf",
    tags=["Reading"],
    summary="A claim's report as a signed PDF",
    response_description="The PDF.",
    media_type=PDF,
    responses=problems(404, 503),
    sync_to_thread=True,
)
def read_claim_report_pdf(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], claim_id: FromPath[uuid.UUID]
) -> Response[bytes]:
    """PDF/A-3, with the report, the decision, every step, proofs and receipt attached: `lawful report verify` checks it
    from itself. Drawn up and signed when it is first asked for, the same bytes until the claim moves on."""
    from ledger.reports.document import (
        signed_claim_pdf,  # what draws and signs is loaded by the process that first does
    )

    return pdf_answer(request, signed_claim_pdf(runtime, claim_id), f"claim-{claim_id}.pdf")


@get(
    "/v1/claims/{claim_id:uuid}/evidence.zip",
    tags=["Reading"],
    summary="A claim's report and all its evidence as files",
    response_description="The zip.",
    media_type=ZIP,
    responses=problems(404, 503),
    sync_to_thread=True,
)
def read_claim_evidence(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], claim_id: FromPath[uuid.UUID]
) -> Response[bytes]:
    """The signed PDF, what it has attached as files, and a README for an expert of the court."""
    from ledger.reports.document import signed_claim_dossier
    from ledger.reports.forms import to_zip

    return zip_answer(request, to_zip(*signed_claim_dossier(runtime, claim_id)), f"claim-{claim_id}.zip")


@get(
    "/v1/schemas/claim-report",
    sync_to_thread=False,
    tags=["Reading"],
    summary="The form of a claim's report",
    response_description="A JSON Schema.",
    media_type=SCHEMA,
)
def read_claim_report_schema() -> Response[dict[str, Any]]:
    """JSON Schema (draft 2020-12) of the member `report` of what `/v1/claims/{claim_id}/report` answers."""
    return Response(claim_report_schema(), media_type=SCHEMA)


@post(
    "/v1/claims/{claim_id:uuid}/answer",
    guards=[takes_json],
    tags=["Writing"],
    security=[{"key": []}],
    summary="Answer a decision",
    responses=problems(401, 403, 404, 409, 413, 415, 422),
    status_code=201,
)
async def answer_claim(
    request: "Request[Any, Any, Any]",
    runtime: NamedDependency[Runtime],
    claim_id: FromPath[uuid.UUID],
    data: JSONBody[Words],
) -> ClaimView:
    """For whoever put the image on record, and for the operator. The answer is shown beside the decision."""
    return await sync_to_thread(_reply, runtime, request.state.principal_id, claim_id, data.words, appealed=False)


@post(
    "/v1/claims/{claim_id:uuid}/appeal",
    guards=[takes_json],
    tags=["Writing"],
    security=[{"key": []}],
    summary="Appeal against a decision",
    responses=problems(401, 403, 404, 409, 413, 415, 422),
    status_code=201,
)
async def appeal_claim(
    request: "Request[Any, Any, Any]",
    runtime: NamedDependency[Runtime],
    claim_id: FromPath[uuid.UUID],
    data: JSONBody[Words],
) -> ClaimView:
    """Once for each side: image and work are examined again, with what is on record by then."""
    return await sync_to_thread(_reply, runtime, request.state.principal_id, claim_id, data.words, appealed=True)


# ---- for people ------------------------------------------------------------------------------------------------------


@get("/claims", include_in_schema=False, sync_to_thread=True)
def claims_page(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], about: About = None, before: Before = None
) -> Template | Response[Claims]:
    """Claims, the newest first."""
    with runtime.reading() as session:
        found = views.newest_claims(session, about=about, before=before)
    vary = {"Vary": "Accept"}
    if not wants_page(request):
        return Response(Claims(found), media_type=MediaType.JSON, headers=vary)
    context = {"claims": found, "about": about, "more": len(found) == views.PAGE, "rules": rules.published()}
    return Template("claims.html", context=context, headers=vary)


@get("/claims/{claim_id:uuid}", guards=[knows_sign_in], include_in_schema=False, sync_to_thread=True)
def claim_page(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], claim_id: FromPath[uuid.UUID]
) -> Template | Response[ClaimView]:
    """A claim; for its claimant, with what they can do about it."""
    found = _view(runtime, claim_id)
    vary = {"Vary": "Accept, Cookie"}
    if not wants_page(request):
        return Response(found, media_type=MediaType.JSON, headers=vary)
    with runtime.reading() as session:
        claim = session.get_one(Claim, claim_id)
        own = claim.identity_id is not None and claim.identity_id == request.state.identity_id
        seen = examined.newest(session, claim_id)
    context = {"claim": found, "seen": seen, "own": own, "proof": None}
    return Template("claim.html", context=context, headers=vary)


@get("/claims/new", include_in_schema=False, sync_to_thread=False)
def new_claim_page(runtime: NamedDependency[Runtime], about: About = None) -> Template:
    """The form."""
    context = {"about": about, "max_bytes": runtime.settings.max_upload_bytes, "kinds": opening.KINDS}
    return Template("claim_new.html", context=context)


@post("/claims/new", include_in_schema=False)
async def open_claim(request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime]) -> Redirect:
    """Takes the form, and leads to the claim's page."""
    form = await request.form()
    unknown = set(form) - FORM_FIELDS
    if unknown:
        raise _malformed(f"the form has {len(unknown)} fields that are not known")
    upload = form.get("file")
    data = await upload.read() if isinstance(upload, UploadFile) and upload.filename else None
    if data is not None and len(data) > runtime.settings.max_upload_bytes:
        raise too_large(runtime.settings.max_upload_bytes)
    wish = _wish({name: value for name, value in form.items() if isinstance(value, str)}, data)
    claim_id = await in_turn(request, opening.open_claim, runtime, wish, identity_id=request.state.identity_id)
    return Redirect(f"/claims/{claim_id}", status_code=303)


@post("/claims/{claim_id:uuid}/withdraw", include_in_schema=False)
async def withdraw_claim(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], claim_id: FromPath[uuid.UUID]
) -> Redirect:
    """For the claimant."""
    await sync_to_thread(_withdraw, runtime, claim_id, request.state.identity_id)
    return Redirect(f"/claims/{claim_id}", status_code=303)


@post("/claims/{claim_id:uuid}/appeal", include_in_schema=False)
async def appeal_by_claimant(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], claim_id: FromPath[uuid.UUID]
) -> Redirect:
    """For the claimant, once."""
    form = await request.form()
    await sync_to_thread(_appeal, runtime, claim_id, request.state.identity_id, str(form.get("words", "")))
    return Redirect(f"/claims/{claim_id}", status_code=303)


@post("/claims/{claim_id:uuid}/control", include_in_schema=False, status_code=200)
async def ask_for_token(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], claim_id: FromPath[uuid.UUID]
) -> Template:
    """The token that the claimant is to show, and on which page."""
    found, token, page = await sync_to_thread(_token, runtime, claim_id, request.state.identity_id)
    context = {"claim": found, "seen": None, "own": True, "proof": (token, page)}
    return Template("claim.html", context=context)


@post("/claims/{claim_id:uuid}/control/check", include_in_schema=False)
async def check_token(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], claim_id: FromPath[uuid.UUID]
) -> Redirect:
    """Fetches the page on record; what it proves counts in the next examination."""
    await sync_to_thread(_check_token, runtime, claim_id, request.state.identity_id)
    return Redirect(f"/claims/{claim_id}", status_code=303)


# ---- in a thread -----------------------------------------------------------------------------------------------------


def _view(runtime: Runtime, claim_id: uuid.UUID) -> ClaimView:
    with runtime.reading() as session:
        return views.view(session, runtime, claim_id)


def _reply(runtime: Runtime, principal_id: uuid.UUID, claim_id: uuid.UUID, words: str, *, appealed: bool) -> ClaimView:
    take = replies.appeal if appealed else replies.answer
    with runtime.sessions.begin() as session:
        role = replies.role_of_principal(session, claim_id, principal_id)
        take(session, runtime, claim_id, role, words)
    return _view(runtime, claim_id)


def _withdraw(runtime: Runtime, claim_id: uuid.UUID, identity_id: uuid.UUID) -> None:
    with runtime.sessions.begin() as session:
        replies.require_claimant(session, claim_id, identity_id)
        keys = replies.withdraw(session, runtime, claim_id)
    replies.forget_files(runtime, keys)


def _appeal(runtime: Runtime, claim_id: uuid.UUID, identity_id: uuid.UUID, words: str) -> None:
    with runtime.sessions.begin() as session:
        replies.require_claimant(session, claim_id, identity_id)
        replies.appeal(session, runtime, claim_id, "claimant", words)


def _token(runtime: Runtime, claim_id: uuid.UUID, identity_id: uuid.UUID) -> tuple[ClaimView, str, str]:
    artist_id = _artist(runtime, claim_id, identity_id)
    with runtime.sessions.begin() as session:
        token, page = control.ask(session, identity_id, artist_id)
    return _view(runtime, claim_id), token, page


def _check_token(runtime: Runtime, claim_id: uuid.UUID, identity_id: uuid.UUID) -> None:
    control.check(runtime, identity_id, _artist(runtime, claim_id, identity_id))


def _artist(runtime: Runtime, claim_id: uuid.UUID, identity_id: uuid.UUID) -> uuid.UUID:
    """The artist of the work that this person's claim names."""
    with runtime.reading() as session:
        replies.require_claimant(session, claim_id, identity_id)
        claim = session.get(Claim, claim_id)
        if claim is None:
            raise moving.unknown(claim_id)
        work = session.get(Work, claim.work_id) if claim.work_id is not None else None
    if work is None:
        raise NotFound(
            "the claim names no work on record, so no artist's page is known",
            code="artist_page_unknown",
            next_step="have the work put into the collection first",
        )
    return work.artist_id


def _wish(fields: dict[str, str], work: bytes | None) -> Wish:
    named = fields.get("work_id", "").strip()
    return Wish(
        kind=fields.get("kind", ""),  # type: ignore[arg-type]  # `opening.check` refuses other words
        claimant=fields.get("claimant", ""),
        about=_uuid("about", fields.get("about", "")),
        work_id=_uuid("work_id", named) if named else None,
        work=work,
        made_on=_day(fields.get("made_on", "")),
        words=fields.get("words", ""),
    )


def _uuid(field: str, text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text.strip())
    except ValueError as error:
        raise _malformed(f"{field}: an id is wanted, {len(text)} characters were given") from error


def _day(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text) if text else None
    except ValueError as error:
        raise _malformed("made_on: a day as YYYY-MM-DD is wanted") from error


def _malformed(detail: str) -> BadRequest:
    return BadRequest(detail, code="claim_malformed", next_step="open /claims/new and fill in the form there")
