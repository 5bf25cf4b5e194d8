"""The pages for people: no account, nothing from elsewhere, script only to be quicker. They say what is not proven."""

import uuid
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect, Template

from ledger import jobs, verifications
from ledger.naming import nameable
from ledger.runtime import Runtime
from ledger.verify import Verification
from ledger.web.documentation import operations
from ledger.web.in_turn import in_turn
from ledger.web.reading import of_kind
from ledger.web.uploads import read_upload
from ledger.web.writing import look_at

REFRESH_SECONDS = 2


@get("/", include_in_schema=False, sync_to_thread=False)
def home(runtime: NamedDependency[Runtime]) -> Template:
    """The form."""
    return Template("home.html", context={"max_bytes": runtime.settings.max_upload_bytes})


@post("/", include_in_schema=False)
async def ask(request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime]) -> Redirect:
    """Take the form's file and lead to the page of its verification."""
    upload = await read_upload(request, limit=runtime.settings.max_upload_bytes, bare=False)
    record_id = await in_turn(request, look_at, runtime, None, upload)
    return Redirect(f"/v/{record_id}", status_code=303)


@get("/v/{record_id:uuid}", include_in_schema=False, sync_to_thread=True)
def verification_page(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], record_id: FromPath[uuid.UUID]
) -> Template | Response[None]:
    """What a verification found; while it is not finished, a page that asks again by itself."""
    hidden = {"X-Robots-Tag": "noindex, nofollow"}
    with runtime.reading() as session:
        found = verifications.result(session, record_id)
        if found is None:
            of_kind(session, record_id, "verification")
            if "hx-request" in request.headers:  # nothing new: what is shown stays
                return Response(None, status_code=204, headers=hidden)
            waiting = {"here": f"/v/{record_id}", "seconds": REFRESH_SECONDS, "worker": jobs.worker_is_alive(session)}
            return Template("pending.html", context=waiting, headers=hidden)
        shown = msgspec.convert(found, Verification)
        if shown.evidence is not None and (evidence := nameable(session, shown.evidence)) is not shown.evidence:
            compared = msgspec.structs.replace(shown.checks[-1], code=evidence.statement)
            shown = msgspec.structs.replace(shown, evidence=evidence, checks=[*shown.checks[:-1], compared])
    context = {"found": shown, "raw": f"/v1/verifications/{record_id}"}
    return Template("verification.html", context=context, headers=hidden)


@get("/docs", include_in_schema=False, sync_to_thread=False)
def documentation_page(request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime]) -> Template:
    """The API, from the same schema that programs read."""
    schema = request.app.openapi_schema.to_schema()
    return Template("docs.html", context={"groups": operations(schema), "base": runtime.settings.public_url})
