"""The artist's desk: what somebody who is signed in does about the works of an artist for whom they act."""

import uuid
from typing import Annotated, Any

import sqlalchemy as sa
from litestar import Request, get, post
from litestar.concurrency import sync_to_thread
from litestar.datastructures import UploadFile
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.response import Redirect, Template
from sqlalchemy.orm import Session

from ledger import grants
from ledger.artists import desk, enrolling, links, webhooks
from ledger.artists.desk import Desk
from ledger.claims import control
from ledger.database.tables.works import Work
from ledger.errors import BadRequest, NotFound
from ledger.runtime import Runtime
from ledger.sources import Grants
from ledger.web.in_turn import in_turn
from ledger.web.signing_in import HIDDEN
from ledger.web.uploads import too_large

ENROLMENT_FIELDS = frozenset({"file", "title", "licence", *grants.GRANTS})
After = Annotated[uuid.UUID | None, QueryParameter(description="The last work of the page before.")]


@get("/account/artists/{artist_id:uuid}", sync_to_thread=True, include_in_schema=False)
def desk_page(
    request: "Request[Any, Any, Any]",
    runtime: NamedDependency[Runtime],
    artist_id: FromPath[uuid.UUID],
    after: After = None,
) -> Template:
    """The desk; for whoever does not act for this artist, in the same words for any id, how to come to it."""
    identity_id: uuid.UUID = request.state.identity_id
    with runtime.reading() as session:
        mine = links.acts_for(session, identity_id, artist_id)
        found = desk.view(session, identity_id, artist_id, after) if mine else None
    if found is None:
        return _strangers_page(artist_id, identity_id)
    return _page(runtime, found)


@post("/account/artists/{artist_id:uuid}/grants", include_in_schema=False)
async def change_grants(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], artist_id: FromPath[uuid.UUID]
) -> Redirect:
    """Gives or withdraws one grant of all works of the artist."""
    return await _change(request, runtime, artist_id, None)


@post("/account/artists/{artist_id:uuid}/works/{work_id:uuid}/grants", include_in_schema=False)
async def change_grants_of_work(
    request: "Request[Any, Any, Any]",
    runtime: NamedDependency[Runtime],
    artist_id: FromPath[uuid.UUID],
    work_id: FromPath[uuid.UUID],
) -> Redirect:
    """Gives or withdraws one grant of one work."""
    return await _change(request, runtime, artist_id, work_id)


@post("/account/artists/{artist_id:uuid}/enrolments", include_in_schema=False)
async def enrol(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], artist_id: FromPath[uuid.UUID]
) -> Redirect:
    """Takes a picture that is to become a work of the artist."""
    form = await request.form()
    upload = form.get("file")
    if set(form) - ENROLMENT_FIELDS or not isinstance(upload, UploadFile):
        raise BadRequest(
            f"the form has no file, or fields that are not known, among {len(form)}",
            code="enrolment_malformed",
            next_step="fill in the form on the artist's desk",
        )
    picture = await upload.read()
    if len(picture) > runtime.settings.max_upload_bytes:
        raise too_large(runtime.settings.max_upload_bytes)
    wish = enrolling.Wish(
        picture=picture,
        title=str(form.get("title", "")).strip(),
        licence=str(form.get("licence", "")).strip(),
        grants=Grants(**{each: form.get(each) == "yes" for each in grants.GRANTS}),
    )
    await in_turn(request, enrolling.ask, runtime, request.state.identity_id, artist_id, wish)
    return _back(artist_id)


@post("/account/artists/{artist_id:uuid}/webhook", status_code=200, include_in_schema=False)
async def set_webhook(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], artist_id: FromPath[uuid.UUID]
) -> Template:
    """Sets where notices go; the answer is the only place that ever shows the secret."""
    form = await request.form()
    url = str(form.get("url", "")).strip()
    return await sync_to_thread(_set_webhook, runtime, request.state.identity_id, artist_id, url)


@post("/account/artists/{artist_id:uuid}/webhook/remove", include_in_schema=False)
async def remove_webhook(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], artist_id: FromPath[uuid.UUID]
) -> Redirect:
    """Ends one's own notices."""
    await sync_to_thread(_remove_webhook, runtime, request.state.identity_id, artist_id)
    return _back(artist_id)


@post("/account/artists/{artist_id:uuid}/control", status_code=200, include_in_schema=False)
async def ask_for_token(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], artist_id: FromPath[uuid.UUID]
) -> Template:
    """The token to show on the artist's page, and which page that is."""
    identity_id: uuid.UUID = request.state.identity_id
    proof = await sync_to_thread(_token, runtime, identity_id, artist_id)
    return _strangers_page(artist_id, identity_id, proof)


@post("/account/artists/{artist_id:uuid}/control/check", include_in_schema=False)
async def check_token(
    request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime], artist_id: FromPath[uuid.UUID]
) -> Redirect:
    """Fetches the page on record; where it shows the token, the desk opens."""
    await sync_to_thread(_check, runtime, request.state.identity_id, artist_id)
    return _back(artist_id)


# ---- pages -----------------------------------------------------------------------------------------------------------


def _page(runtime: Runtime, found: Desk, secret: str | None = None) -> Template:
    context = {
        "desk": found,
        "page": desk.PAGE,
        "secret": secret,
        "most_enrolments": enrolling.PER_DAY,
        "max_bytes": runtime.settings.max_upload_bytes,
    }
    return Template("desk.html", context=context, headers=HIDDEN)


def _strangers_page(artist_id: uuid.UUID, identity_id: uuid.UUID, proof: tuple[str, str] | None = None) -> Template:
    context = {"artist_id": str(artist_id), "identity_id": str(identity_id), "proof": proof}
    return Template("desk_closed.html", context=context, headers=HIDDEN)


def _back(artist_id: uuid.UUID) -> Redirect:
    return Redirect(f"/account/artists/{artist_id}", status_code=303)


# ---- in a thread -----------------------------------------------------------------------------------------------------


async def _change(
    request: "Request[Any, Any, Any]", runtime: Runtime, artist_id: uuid.UUID, work_id: uuid.UUID | None
) -> Redirect:
    form = await request.form()
    grant, allowed = desk.wanted(str(form.get("change", "")))
    await sync_to_thread(
        desk.change, runtime, request.state.identity_id, artist_id, grant, allowed=allowed, work_id=work_id
    )
    return _back(artist_id)


def _set_webhook(runtime: Runtime, identity_id: uuid.UUID, artist_id: uuid.UUID, url: str) -> Template:
    with runtime.sessions.begin() as session:
        secret = webhooks.put(session, identity_id, artist_id, url)
        found = desk.view(session, identity_id, artist_id)
    return _page(runtime, found, secret)


def _remove_webhook(runtime: Runtime, identity_id: uuid.UUID, artist_id: uuid.UUID) -> None:
    with runtime.sessions.begin() as session:
        webhooks.remove(session, identity_id, artist_id)


def _token(runtime: Runtime, identity_id: uuid.UUID, artist_id: uuid.UUID) -> tuple[str, str]:
    with runtime.sessions.begin() as session:
        _shown(session, artist_id)
        return control.ask(session, identity_id, artist_id)


def _check(runtime: Runtime, identity_id: uuid.UUID, artist_id: uuid.UUID) -> None:
    with runtime.reading() as session:
        _shown(session, artist_id)
    control.check(runtime, identity_id, artist_id)


def _shown(session: Session, artist_id: uuid.UUID) -> None:
    """The page on record would tell who the artist is: of one who may not be named, strangers are told nothing."""
    named = sa.select(Work.id).where(Work.artist_id == artist_id, Work.grant_name).limit(1)
    if session.scalar(named) is None:
        raise NotFound(
            "no page is on record as this artist's own",
            code="artist_page_unknown",
            next_step="ask the operator for a link: `lawful artist link`",
        )
