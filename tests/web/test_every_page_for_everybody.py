"""Every page against WCAG 2.2 AA as axe-core measures it, in light and dark, on a phone and at a desk; then by hand:
the keyboard alone, the names that a screen reader says, and what stays when motion or colours are switched off.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, FileChooser, Page

from ledger.runtime import Runtime

from ..integration.http_ledger import png, stamped, working  # noqa: TID252 - tests are no package
from .every_page import every_page, sign_in

pytestmark = [pytest.mark.postgres, pytest.mark.browser]

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SMALLEST_TARGET = 24  # CSS pixels; WCAG 2.2, 2.5.8


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """Only here scripts from outside may run: axe is one."""
    context = chromium.new_context(viewport=DESK, bypass_csp=True)  # type: ignore[arg-type]
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def violations(page: Page) -> list[str]:
    found = Axe().run(page, options={"runOnly": AA, "resultTypes": ["violations"]}).response["violations"]
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found for node in each["nodes"]]


@pytest.mark.timeout(900)
def test_axe_finds_nothing_on_any_page_and_none_scrolls_sideways(
    runtime: Runtime, site: str, context: BrowserContext, page: Page, tmp_path: Path
) -> None:
    pages = every_page(runtime, tmp_path)
    sign_in(runtime, context, site)
    found = {}
    for name, path in pages.items():
        page.goto(site + path)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            for screen in (PHONE, DESK):
                page.set_viewport_size(screen)  # type: ignore[arg-type]
                faults = violations(page)
                if page.evaluate("document.documentElement.scrollWidth") > screen["width"]:
                    faults.append("scrolls sideways")
                if faults:
                    found[name, scheme, screen["width"]] = faults
    assert not found


def test_axe_is_not_blind(site: str, page: Page) -> None:
    page.goto(site)
    page.evaluate("document.querySelector('label[for=file]').remove(); document.documentElement.lang = ''")
    assert {each.partition(":")[0] for each in violations(page)} >= {"label", "html-has-lang"}


def choosers(page: Page) -> list[FileChooser]:
    """Where dialogs for files turn up. Ask for it before the page: Chromium needs a moment to hand its dialogs over."""
    asked: list[FileChooser] = []

    def take(chooser: FileChooser) -> None:
        asked.append(chooser)

    page.on("filechooser", take)
    return asked


def choose(page: Page, asked: list[FileChooser], file: Path) -> None:
    """Open the dialog of the field that has the focus, and choose `file`."""
    for _ in range(20):
        page.keyboard.press("Space")
        page.wait_for_timeout(1000)
        if asked:
            break
    asked[0].set_files(file)


def test_a_picture_is_checked_by_keyboard_alone(runtime: Runtime, site: str, page: Page, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(png(7))
    asked = choosers(page)
    page.goto(site)
    page.keyboard.press("Tab")
    assert page.get_by_role("link", name="Skip to the content").is_visible()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert focused(page) == "file", "the skip link leads past the navigation"
    choose(page, asked, tmp_path / "picture.png")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Looking at your image…").wait_for()
    with working(runtime):
        page.get_by_role("heading", name="Six answers").wait_for(timeout=60_000)


def test_a_record_is_claimed_by_keyboard_alone(
    runtime: Runtime, site: str, context: BrowserContext, page: Page, tmp_path: Path
) -> None:
    every_page(runtime, tmp_path)  # whose claimant signs in
    record = stamped(runtime, png(60))
    (tmp_path / "mine.png").write_bytes(png(61))
    sign_in(runtime, context, site)
    asked = choosers(page)
    page.goto(f"{site}/claims/new?about={record}")
    reach(page, "kind")
    page.keyboard.type("This image copies")
    reach(page, "claimant")
    page.keyboard.type("Jane Doe")
    reach(page, "file")
    choose(page, asked, tmp_path / "mine.png")
    reach(page, "words")
    page.keyboard.type("It is after my work of 2019.")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="This image copies my work").wait_for()
    page.get_by_text("Not decided yet.").wait_for()


def test_whatever_takes_the_focus_shows_it_and_is_large_enough_to_touch(
    runtime: Runtime, site: str, context: BrowserContext, page: Page, tmp_path: Path
) -> None:
    pages = every_page(runtime, tmp_path)
    sign_in(runtime, context, site)
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    for name in ("home", "record", "log", "claim", "new claim", "desk"):
        page.goto(site + pages[name])
        seen = 0
        for _ in range(120):
            page.keyboard.press("Tab")
            shown = page.evaluate(FOCUSED)
            if shown is None:
                break
            seen += 1
            assert shown["outline"] >= 2, (name, shown)
            assert shown["inline"] or shown["height"] >= SMALLEST_TARGET, (name, shown)
        assert seen > 6


def test_a_screen_reader_hears_where_it_is_and_what_was_found(
    runtime: Runtime, site: str, page: Page, tmp_path: Path
) -> None:
    pages = every_page(runtime, tmp_path)
    page.goto(site + pages["log"])
    assert page.get_by_role("navigation", name="Main").get_by_role("link", name="Log").get_attribute("aria-current")
    page.goto(site + pages["record"])
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(each => Number(each.tagName[1]))")
    assert levels[0] == 1
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels))
    assert page.get_by_role("article", name="Generated by this ledger's operator").count() == 1
    answers = page.get_by_role("list", name="Six answers")
    assert answers.get_by_role("listitem").count() == 6
    assert "recorded" in answers.inner_text()


def test_nothing_moves_for_those_who_asked_for_stillness(
    runtime: Runtime, site: str, page: Page, tmp_path: Path
) -> None:
    pages = every_page(runtime, tmp_path)
    page.emulate_media(reduced_motion="reduce")
    page.goto(site + pages["look that waits"])
    assert page.evaluate("document.getAnimations().length") == 0
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate("document.getAnimations().length") == 1


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.id"))


def reach(page: Page, name: str) -> None:
    """Press Tab until this field has the focus."""
    for _ in range(40):
        if focused(page) == name:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{name} cannot be reached")


FOCUSED = """() => {
  const each = document.activeElement;
  if (each === document.body) return null;
  const style = getComputedStyle(each);
  return {
    what: each.outerHTML.slice(0, 80),
    outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
    inline: style.display === "inline",
    height: each.getBoundingClientRect().height,
  };
}"""
