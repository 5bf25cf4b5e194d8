"""A ledger with one of everything that has a page, and who may see it."""

import datetime as dt
import uuid
from pathlib import Path

import msgspec
from playwright.sync_api import BrowserContext

from attribution.evidence import Evidence
from ledger import verifications
from ledger.artists import enrolling
from ledger.claims import identities
from ledger.database.tables.works import Work
from ledger.runtime import Runtime
from ledger.sources import Grants
from ledger.web.sessions import cookie_name

from ..integration.claiming import (  # noqa: TID252 - tests are no package
    FOUND,
    JANE,
    Answers,
    claimed,
    settled,
    somebody,
    works_of,
)
from ..integration.desks import link  # noqa: TID252
from ..integration.http_ledger import FOUND as FINDINGS  # noqa: TID252
from ..integration.http_ledger import HOSTILE, generated, looked, png, stamped, told  # noqa: TID252

EMAIL = "jane@example.org"


def every_page(runtime: Runtime, folder: Path) -> dict[str, str]:
    """The address of a page of every kind, by a name for it. `signed_in` sees the last of them."""
    work, _ = works_of(runtime, folder, seeds=(50, 51))
    with runtime.sessions() as session:
        artist = session.get_one(Work, work).artist_id
    record = generated(runtime, evidence=_crediting(work, artist))
    stamp, look = stamped(runtime, png(2), HOSTILE), looked(runtime, png(1))
    waiting = _waiting(runtime)
    jane = somebody(runtime, EMAIL)
    link(runtime, artist, jane)
    enrolling.ask(runtime, jane, artist, enrolling.Wish(png(71), HOSTILE, "CC-BY-4.0", Grants(False, True, True)))
    decided = claimed(runtime, jane, kind="copies", about=record, work_id=work, words="I painted it in May.")
    settled(runtime, decided, Answers(FOUND))
    open_claim = claimed(runtime, about=stamp, work=png(50), made_on=dt.date(2026, 5, 4))
    return {
        "home": "/",
        "record": f"/r/{record}",
        "stamp": f"/r/{stamp}",
        "unknown hash": f"/r/{'0' * 64}",
        "look": f"/v/{look}",
        "look that waits": f"/v/{waiting}",
        "log": "/log",
        "log searched": "/log?q=test-generator",
        "about": "/about",
        "claims": "/claims",
        "claim": f"/claims/{decided}",
        "claim that is open": f"/claims/{open_claim}",
        "work": f"/works/{work}",
        "artist": f"/artists/{artist}",
        "docs": "/docs",
        "sign in": "/sign-in",
        "link": "/sign-in/abc",
        "account": "/account",
        "desk": f"/account/artists/{artist}",
        "desk that is shut": f"/account/artists/{uuid.UUID(int=0)}",
        "new claim": f"/claims/new?about={record}",
    }


def sign_in(runtime: Runtime, context: BrowserContext, site: str) -> None:
    """Give the browser the cookie of whoever has opened a link sent to `EMAIL`."""
    now = runtime.clock()
    with runtime.sessions.begin() as session:
        cookie = identities.sign_in(session, identities.new_link(session, EMAIL, now), now)
    context.add_cookies([{"name": cookie_name(runtime.settings), "value": cookie, "url": site}])


def _waiting(runtime: Runtime) -> uuid.UUID:
    with runtime.sessions.begin() as session:
        return verifications.accept_verification(session, runtime, image=png(3), principal_id=None)


def _crediting(work: uuid.UUID, artist: uuid.UUID) -> Evidence:
    """All axes, with a copy of this work and this artist's hand among what they find."""
    assert FINDINGS.copy is not None
    assert FINDINGS.style is not None
    first = msgspec.structs.replace(
        FINDINGS.copy.matches[0], work_id=str(work), artist_id=str(artist), artist=JANE, title="Wheat Field"
    )
    hand = msgspec.structs.replace(FINDINGS.style.artists[0], artist_id=str(artist), artist=JANE)
    return told(
        msgspec.structs.replace(
            FINDINGS,
            copy=msgspec.structs.replace(FINDINGS.copy, matches=[first, *FINDINGS.copy.matches[1:]]),
            style=msgspec.structs.replace(FINDINGS.style, artists=[hand, *FINDINGS.style.artists[1:]]),
        )
    )
