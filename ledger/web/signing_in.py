"""Signing in by a link: ask for it, open it, press the button; and one's own page."""

import uuid
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.concurrency import sync_to_thread
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.response import Redirect, Template

from ledger.artists import desk
from ledger.artists.desk import DeskLine
from ledger.claims import identities, mail, views
from ledger.claims.views import ClaimLine
from ledger.runtime import Runtime
from ledger.web.returning import own_page
from ledger.web.sessions import cookie_name, session_cookie

Back = Annotated[str | None, QueryParameter(description="The page of this site to come back to.")]
HIDDEN = {"X-Robots-Tag": "noindex, nofollow"}
LINK_MINUTES = int(identities.LINK_LIFE.total_seconds() // 60)


@get("/sign-in", include_in_schema=False, sync_to_thread=False)
def sign_in_page(back: Back = None) -> Template:
    """Asks for an address."""
    return Template("sign_in.html", context={"sent": False, "minutes": LINK_MINUTES, "back": own_page(back)})


@post("/sign-in", include_in_schema=False, status_code=200)
async def send_link(request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime]) -> Template:
    """Sends a link. The answer is the same whether the address is known or not."""
    form = await request.form()
    back = own_page(str(form.get("back", "")))
    await sync_to_thread(_send, runtime, str(form.get("email", "")), back)
    return Template("sign_in.html", context={"sent": True, "minutes": LINK_MINUTES, "back": back})


@get("/sign-in/{token:str}", include_in_schema=False, sync_to_thread=False)
def link_page(token: FromPath[str]) -> Template:
    """A button, and nothing else: whoever opens links for others (a mail scanner) uses none of them up."""
    return Template("sign_in_link.html", context={"token": token}, headers=HIDDEN)


@post("/sign-in/{token:str}", include_in_schema=False)
async def use_link(runtime: NamedDependency[Runtime], token: FromPath[str]) -> Response[Any]:
    """The link's one use. It leads to the page that its sender came from."""
    cookie, back = await sync_to_thread(_use, runtime, token)
    page = own_page(back) or "/account"
    return Redirect(page, status_code=303, cookies=[session_cookie(runtime.settings, cookie)])


@post("/sign-out", include_in_schema=False)
async def sign_out(request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime]) -> Response[Any]:
    """Ends the session, here and in the database."""
    cookie = request.cookies.get(cookie_name(runtime.settings))
    if cookie:
        await sync_to_thread(_end, runtime, cookie)
    return Redirect("/", status_code=303, cookies=[session_cookie(runtime.settings, "")])


@get("/account", include_in_schema=False, sync_to_thread=True)
def account_page(request: "Request[Any, Any, Any]", runtime: NamedDependency[Runtime]) -> Template:
    """The artists for whom one acts, one's own claims, and the id by which the operator can link or forget one."""
    identity_id: uuid.UUID = request.state.identity_id
    with runtime.reading() as session:
        claims: list[ClaimLine] = views.newest_claims(session, identity_id=identity_id)
        artists: list[DeskLine] = desk.artists(session, identity_id)
    context = {"identity_id": str(identity_id), "claims": claims, "artists": artists}
    return Template("account.html", context=context, headers=HIDDEN)


def _send(runtime: Runtime, text: str, back: str | None) -> None:
    email = identities.address(text)
    with runtime.sessions.begin() as session:
        token = identities.new_link(session, email, runtime.clock(), back)
    # After the commit: a link that was sent is one that works.
    mail.send_link(runtime.settings, email, f"{runtime.settings.public_url}/sign-in/{token}", LINK_MINUTES)


def _use(runtime: Runtime, token: str) -> tuple[str, str | None]:
    with runtime.sessions.begin() as session:
        back = identities.page_of(session, token)
        return identities.sign_in(session, token, runtime.clock()), back


def _end(runtime: Runtime, cookie: str) -> None:
    with runtime.sessions.begin() as session:
        identities.sign_out(session, cookie)
