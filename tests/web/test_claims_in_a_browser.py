"""Signing in and claiming as a person does, in a real browser without script; and what another site's page can send."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
from playwright.sync_api import Browser, Page

from ledger.database.tables.claims import Claim
from ledger.runtime import Runtime

from ..integration.claiming import settled  # noqa: TID252 - tests are no package
from ..integration.http_ledger import png, stamped  # noqa: TID252

pytestmark = [pytest.mark.postgres, pytest.mark.browser]


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(java_script_enabled=False)
    yield context.new_page()
    context.close()


def sign_in(site: str, page: Page) -> None:
    page.goto(f"{site}/sign-in")
    page.get_by_label("Your e-mail address").fill("jane@example.org")
    with structlog.testing.capture_logs() as logged:
        page.get_by_role("button", name="Send me a link").click()
        page.get_by_role("status").wait_for()
    (line,) = [each for each in logged if each["event"] == "sign_in_link"]
    page.goto(str(line["link"]))
    page.get_by_role("button", name="Sign in here").click()
    page.get_by_role("heading", name="Your claims").wait_for()


def test_somebody_signs_in_claims_and_reads_the_decision(
    runtime: Runtime, site: str, page: Page, tmp_path: Path
) -> None:
    record = stamped(runtime, png(50))
    (tmp_path / "work.png").write_bytes(png(50))
    sign_in(site, page)
    page.goto(f"{site}/claims/new?about={record}")
    page.get_by_label("What do you claim?").select_option("mine")
    page.get_by_label("The artist's name").fill("Jane Doe")
    page.get_by_label("or a picture of your work").set_input_files(tmp_path / "work.png")
    page.get_by_role("button", name="Open the claim").click()
    page.get_by_text("Not decided yet.").wait_for()
    (found,) = [settled(runtime, each) for each in _claims(runtime)]
    page.reload()
    assert found.decision is not None
    page.get_by_text("inconclusive", exact=True).wait_for()
    page.get_by_label("What should be looked at again?").fill("Look again.")
    page.get_by_role("button", name="Appeal").click()
    page.get_by_text("Appealed by the claimant").wait_for()


def test_a_form_on_another_sites_page_does_nothing(site: str, page: Page) -> None:
    sign_in(site, page)
    page.goto("about:blank")  # no page of ours
    page.set_content(f'<form method="post" action="{site}/sign-out"><button>Win a prize</button></form>')
    page.get_by_role("button").click()
    page.get_by_text("did not come from this ledger's own page").wait_for()
    page.goto(f"{site}/account")
    page.get_by_role("heading", name="Your claims").wait_for()


def _claims(runtime: Runtime) -> list[uuid.UUID]:
    with runtime.sessions() as session:
        return list(session.scalars(sa.select(Claim.id)))
