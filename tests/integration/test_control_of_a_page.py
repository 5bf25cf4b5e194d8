"""Proof of control: the token on the page that the operator put on record, and on no other."""

import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from ledger.claims import control, replies
from ledger.claims.fetching import PageRefused
from ledger.database.tables.works import Work
from ledger.errors import BadRequest, NotFound
from ledger.runtime import Runtime

from .claiming import claimed, settled, somebody, works_of
from .http_ledger import png, stamped

pytestmark = pytest.mark.postgres

OWN = "https://rosa.example.org/about"


@dataclass
class Web:
    """The pages that there are; what is fetched is noted. (How pages are fetched: tests/unit/claims/test_fetching.)"""

    pages: dict[str, bytes]
    asked: list[str] = field(default_factory=list)

    def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        return self.pages[url]


def artist_of(runtime: Runtime, work: uuid.UUID) -> uuid.UUID:
    with runtime.sessions() as session:
        return session.scalars(sa.select(Work.artist_id).where(Work.id == work)).one()


def test_who_shows_the_token_on_the_artists_page_is_verified_from_then_on(runtime: Runtime, tmp_path: Path) -> None:
    """Also under another name than the one on record; before that, the claim was refuted."""
    (work,) = works_of(runtime, tmp_path, artist="Rosa")
    artist, rosa = artist_of(runtime, work), somebody(runtime, "rosa@example.org")
    claim_id = claimed(runtime, rosa, about=stamped(runtime, png(50)), work_id=work, claimant="R. Original")
    first = settled(runtime, claim_id)
    assert first.decision is not None
    assert (first.decision.outcome, first.decision.claimant) == ("contradicted", "declared")
    with runtime.sessions.begin() as session:
        control.put_page(session, artist, OWN)
        token, page = control.ask(session, rosa, artist)
        assert control.ask(session, rosa, artist) == (token, OWN)
    assert page == OWN
    control.check(runtime, rosa, artist, Web({OWN: f"<p>{token}</p>".encode()}))  # type: ignore[arg-type]
    with runtime.sessions.begin() as session:
        replies.appeal(session, runtime, claim_id, "claimant", "The page is mine.")
    again = settled(runtime, claim_id)
    assert again.decision is not None
    assert (again.decision.outcome, again.decision.claimant) == ("supported", "verified")


def test_nothing_but_the_page_on_record_is_fetched(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path, artist="Rosa")
    artist, thief = artist_of(runtime, work), somebody(runtime, "thief@example.org")
    with runtime.sessions.begin() as session, pytest.raises(NotFound) as none:
        control.ask(session, thief, artist)
    assert none.value.code == "artist_page_unknown"
    with runtime.sessions.begin() as session:
        control.put_page(session, artist, OWN)
        token, _ = control.ask(session, thief, artist)
    web = Web({OWN: b"my own words", "https://thief.example.org/": token.encode()})
    with pytest.raises(BadRequest) as refused:
        control.check(runtime, thief, artist, web)  # type: ignore[arg-type]
    assert (refused.value.code, web.asked) == ("token_not_shown", [OWN])


def test_anothers_token_proves_nothing_for_oneself(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path, artist="Rosa")
    artist = artist_of(runtime, work)
    rosa, thief = somebody(runtime, "rosa@example.org"), somebody(runtime, "thief@example.org")
    with runtime.sessions.begin() as session:
        control.put_page(session, artist, OWN)
        token, _ = control.ask(session, rosa, artist)
        control.ask(session, thief, artist)
    with pytest.raises(BadRequest):
        control.check(runtime, thief, artist, Web({OWN: token.encode()}))  # type: ignore[arg-type]


def test_another_page_on_record_takes_back_what_was_proven_on_the_old_one(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path, artist="Rosa")
    artist, rosa = artist_of(runtime, work), somebody(runtime, "rosa@example.org")
    with runtime.sessions.begin() as session:
        control.put_page(session, artist, OWN)
        token, _ = control.ask(session, rosa, artist)
    control.check(runtime, rosa, artist, Web({OWN: token.encode()}))  # type: ignore[arg-type]
    with runtime.sessions.begin() as session:
        control.put_page(session, artist, "https://rosa.example.org/new")
    claim_id = claimed(runtime, rosa, about=stamped(runtime, png(50)), work_id=work, claimant="Rosa")
    found = settled(runtime, claim_id)
    assert found.decision is not None
    assert found.decision.claimant == "declared"


def test_no_page_goes_on_record_that_would_never_be_fetched(runtime: Runtime, tmp_path: Path) -> None:
    (work,) = works_of(runtime, tmp_path, artist="Rosa")
    with runtime.sessions.begin() as session:
        for url in ("http://rosa.example.org/", "https://127.0.0.1/", "https://localhost/"):
            with pytest.raises(PageRefused):
                control.put_page(session, artist_of(runtime, work), url)
        with pytest.raises(NotFound):
            control.put_page(session, uuid.uuid4(), OWN)
