"""The pages for people. They need no script, no account and nothing from elsewhere; they say what it does not prove."""

import uuid
from typing import Any, NamedTuple

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.concurrency import sync_to_thread
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect, Template

from attribution.evidence import Evidence
from ledger import jobs, lookup, verifications
from ledger.errors import LedgerError, NotFound
from ledger.lookup import RecordView
from ledger.runtime import Runtime
from ledger.verify import Verification
from ledger.web.documentation import operations
from ledger.web.problems import wants_page
from ledger.web.reading import Records, of_kind
from ledger.web.uploads import read_upload
from ledger.web.writing import look_at

REFRESH_SECONDS = 2


class Shown(NamedTuple):
    """A record and what its report holds; the report is None until it is issued and after it was erased."""

    view: RecordView
    made: dict[str, Any]
    evidence: Evidence | None
    failure: LedgerError | None


@get("/", include_in_schema=False, sync_to_thread=False)
def home(runtime: NamedDependency[Runtime]) -> Template:
    """The form."""
    return Template("home.html", context={"max_bytes": runtime.settings.max_upload_bytes})


@post("/", include_in_schema=False)
async def ask(request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime]) -> Redirect:
    """Take the form's file and lead to the page of its verification."""
    upload = await read_upload(request, limit=runtime.settings.max_upload_bytes, bare=False)
    record_id = await sync_to_thread(look_at, runtime, None, upload)
    return Redirect(f"/v/{record_id}", status_code=303)


@get("/v/{record_id:uuid}", include_in_schema=False, sync_to_thread=True)
def verification_page(runtime: NamedDependency[Runtime], record_id: FromPath[uuid.UUID]) -> Template:
    """What a verification found; while it is not finished, a page that asks again by itself."""
    hidden = {"X-Robots-Tag": "noindex, nofollow"}
    with runtime.sessions() as session:
        found = verifications.result(session, record_id)
        if found is None:
            of_kind(session, record_id, "verification")
            waiting = {"seconds": REFRESH_SECONDS, "worker": jobs.worker_is_alive(session)}
            return Template("pending.html", context=waiting, headers=hidden)
    shown = msgspec.convert(found, Verification)
    context = {"found": shown, "raw": f"/v1/verifications/{record_id}"}
    return Template("verification.html", context=context, headers=hidden)


@get("/r/{name:str}", include_in_schema=False, sync_to_thread=True)
def record_page(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], name: FromPath[str]
) -> Template | Redirect | Response[Records]:
    """A record by its id, by its file's SHA-256 or by its pixels'; for programs the same as JSON."""
    with runtime.sessions() as session:
        views = _named(session, name)
        if not views:
            raise NotFound(
                "nothing is recorded here under this hash, which says nothing about how the image was made",
                code="not_recorded",
                next_step="upload the file itself: a copy that was saved again has another hash and may still be found",
            )
        if views[0].kind == "verification":
            return Redirect(f"/v/{views[0].id}", status_code=303)
        vary = {"Vary": "Accept"}
        if not wants_page(request):
            return Response(Records(views), media_type=MediaType.JSON, headers=vary)
        shown = [_with_report(runtime, session, view) for view in views]
    context = {"records": shown, "base": runtime.settings.public_url, "seconds": REFRESH_SECONDS}
    return Template("record.html", context=context, headers=vary)


@get("/docs", include_in_schema=False, sync_to_thread=False)
def documentation_page(request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime]) -> Template:
    """The API, from the same schema that programs read."""
    schema = request.app.openapi_schema.to_schema()
    return Template("docs.html", context={"groups": operations(schema), "base": runtime.settings.public_url})


def _named(session: Any, name: str) -> list[RecordView]:
    try:
        record_id = uuid.UUID(name)
    except ValueError:
        return lookup.find_any(session, name.lower())
    return [lookup.by_id(session, record_id)]


def _with_report(runtime: Runtime, session: Any, view: RecordView) -> Shown:
    if view.state != "issued" or view.redacted:
        return Shown(view, {}, None, _failure(runtime, view))
    report = msgspec.json.decode(lookup.report(session, uuid.UUID(view.id)))
    return Shown(view, report["made"], msgspec.convert(report["evidence"], Evidence), None)


def _failure(runtime: Runtime, view: RecordView) -> LedgerError | None:
    if view.state != "abandoned":
        return None
    try:
        jobs.wait(runtime.sessions, uuid.UUID(view.id), 0)
    except LedgerError as error:
        return error
    return None
