"""The artist's desk as its artist uses it: by keyboard, without script, from the link in the mail to the log."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Page

from ledger.artists import enrolling
from ledger.database.tables.artists import Enrolment
from ledger.database.tables.claims import Identity
from ledger.database.tables.works import GrantChange
from ledger.log import entries
from ledger.runtime import Runtime

from ..integration.claiming import JANE, works_of  # noqa: TID252 - tests are no package
from ..integration.desks import artist_of, link  # noqa: TID252
from ..integration.http_ledger import png  # noqa: TID252
from ..integration.test_enrolling import Networks  # noqa: TID252
from .test_claims_in_a_browser import sign_in

pytestmark = [pytest.mark.postgres, pytest.mark.browser]

GRANTS = {"learned from": "train", "compared": "compare", "named": "name"}


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(java_script_enabled=False)
    yield context.new_page()
    context.close()


def press(page: Page, role: str, name: str) -> None:
    """Go to this by Tab alone, see that the focus is there, and press Enter."""
    target = page.get_by_role(role, name=name, exact=True)  # type: ignore[arg-type]
    target.wait_for()
    for _ in range(60):
        page.keyboard.press("Tab")
        if target.evaluate("each => each === document.activeElement"):
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"the {role} {name!r} cannot be reached")


def indexed(runtime: Runtime) -> uuid.UUID:
    """The work that the one enrolment becomes, as a worker makes it."""
    with runtime.sessions() as session:
        waiting = session.scalars(sa.select(Enrolment.id)).one()
    enrolling.enrol(runtime, Networks(), waiting)
    with runtime.sessions() as session:
        work = session.get_one(Enrolment, waiting).work_id
    assert work is not None
    return work


def test_an_artist_enrols_a_work_changes_each_grant_and_reads_it_in_the_log(
    runtime: Runtime, site: str, page: Page, tmp_path: Path
) -> None:
    artist = artist_of(runtime, works_of(runtime, tmp_path)[0])
    (tmp_path / "sower.png").write_bytes(png(70))
    sign_in(site, page)
    with runtime.sessions() as session:
        jane = session.scalars(sa.select(Identity.id)).one()
    link(runtime, artist, jane)
    page.reload()
    press(page, "link", JANE)
    page.get_by_role("heading", name=f"Desk of {JANE}").wait_for()

    page.get_by_label("A picture of the work").set_input_files(tmp_path / "sower.png")
    page.get_by_label("Title").fill("The Sower")
    press(page, "button", "Enrol it")
    page.get_by_text("waiting to be indexed").wait_for()
    work = indexed(runtime)
    page.reload()
    page.get_by_text(f"enrolled as {work}").wait_for()

    for said, grant in GRANTS.items():
        first, then = ("Give", "Withdraw") if grant == "train" else ("Withdraw", "Give")
        press(page, "button", f"{first}: The Sower may be {said}")
        page.get_by_role("button", name=f"{then}: The Sower may be {said}").wait_for()
    press(page, "button", "Give: The Sower may be named")  # or it would have no page
    page.get_by_role("button", name="Withdraw: The Sower may be named").wait_for()
    press(page, "link", "The Sower")
    page.get_by_role("heading", name="How its grants changed").wait_for()
    with runtime.sessions() as session:
        newest = session.scalars(sa.select(GrantChange.leaf_hash).order_by(GrantChange.id.desc()).limit(1)).one()
    entries.wait(runtime.sessions, runtime.shard, newest, 120)
    page.reload()
    changes = page.locator("#grants + ul > li").all_inner_texts()
    told = [each.partition(": ")[2].split(" by ")[0] for each in changes]
    assert told == ["name given", "name withdrawn", "compare withdrawn", "train given"]
    entry = changes[0].rpartition(" ")[2]
    page.goto(f"{site}/log?q={entry}")
    page.get_by_role("row", name=entry).get_by_text("A grant changed.").wait_for()


def test_somebody_elses_desk_stays_shut(runtime: Runtime, site: str, page: Page, tmp_path: Path) -> None:
    artist = artist_of(runtime, works_of(runtime, tmp_path)[0])
    sign_in(site, page)
    page.goto(f"{site}/account/artists/{artist}")
    page.get_by_role("heading", level=1).wait_for()
    assert JANE not in page.locator("main").inner_text()
    assert page.get_by_role("button", name="Enrol it").count() == 0
