"""The pages as people meet them: with and without script, by keyboard, on a phone, in the dark, with hostile names."""

import hashlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from ledger import jobs, lookup
from ledger.runtime import Runtime

from ..integration.http_ledger import (  # noqa: TID252 - tests are no package
    HOSTILE,
    generated,
    looked,
    png,
    stamped,
    working,
)

pytestmark = [pytest.mark.postgres, pytest.mark.browser]

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1200, "height": 900}


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A browser without JavaScript: nothing here may need it."""
    context = chromium.new_context(java_script_enabled=False, viewport=DESK)  # type: ignore[arg-type]
    yield context.new_page()
    context.close()


def look_is_finished(runtime: Runtime, page: Page) -> None:
    """Have the look that `page` waits for done. How long that takes is not the page's to answer for."""
    with working(runtime):
        assert jobs.wait(runtime.sessions, uuid.UUID(page.url.rpartition("/")[2]), 200) == "signed"


def test_somebody_uploads_a_picture_and_reads_the_answer_without_script(
    runtime: Runtime, site: str, page: Page, tmp_path: Path
) -> None:
    record_id = generated(runtime)
    with runtime.sessions() as session:
        key, _ = lookup.file_key(session, record_id)
    (tmp_path / "picture.png").write_bytes(runtime.storage.get(key))
    page.goto(site)
    page.get_by_label("An image to check").set_input_files(tmp_path / "picture.png")
    page.get_by_role("button", name="Check this image").click()
    page.wait_for_url("**/v/*")
    page.get_by_role("heading", name="Looking at your image…").wait_for()
    page.get_by_text("No worker is running").wait_for()
    look_is_finished(runtime, page)
    page.get_by_role("heading", name="Six answers").wait_for()  # the page asks again by itself
    heading = page.get_by_role("heading", level=1).inner_text()
    assert "its credential is intact and signed by a trusted signer" in heading
    marks = [each.inner_text() for each in page.locator(".answers:not(.findings) .mark").all()]
    assert marks == ["present", "intact", "valid", "trusted", "none named", "recorded"]
    assert page.locator("table").last.locator("tbody tr").count() == 16
    assert page.get_by_text("similarity share", exact=False).count() > 0
    page.get_by_role("link", name="Generated here", exact=False).first.click()
    assert page.url == f"{site}/r/{record_id}"
    picture = page.get_by_alt_text("The recorded picture")
    picture.wait_for()
    assert page.get_by_alt_text("This image beside “Wheat Field” by Vincent van Gogh", exact=False).is_visible()


def test_the_form_can_be_used_by_keyboard_alone_and_the_focus_is_seen(site: str, chromium: Browser) -> None:
    page = chromium.new_page(viewport=DESK)  # type: ignore[arg-type]
    page.goto(site)
    order = []
    for _ in range(11):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert order == [
        "Skip to the content", "Lawful Ledger", "Check an image", "Log", "Claims", "About", "API",
        "file", "Check this image", "name", "Look up",
    ]  # fmt: skip
    page.close()


def test_hostile_names_are_only_text_and_nothing_is_loaded_from_elsewhere(
    runtime: Runtime, site: str, chromium: Browser
) -> None:
    generated(runtime)
    stamp = stamped(runtime, png(2), HOSTILE)
    look = looked(runtime, png(1))
    page = chromium.new_page(viewport=DESK)  # type: ignore[arg-type]
    said, asked = [], []
    page.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())  # type: ignore[func-returns-value]
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for path in ("/", "/docs", "/log", "/about", "/claims", f"/v/{look}", f"/r/{stamp}"):
        response = page.goto(site + path)
        assert response is not None
        assert response.status == 200
        assert page.evaluate(FOREIGN) == 0
    assert page.get_by_text(HOSTILE, exact=True).count() > 0
    assert "49" not in page.locator("dl.facts").first.inner_text().split(), "no template ran inside a name"
    assert not said
    assert all(url.startswith(site) for url in asked)
    page.close()


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_every_page_fits_its_screen_and_can_be_read_in_light_and_dark(
    runtime: Runtime, site: str, chromium: Browser, scheme: str, viewport: dict[str, int]
) -> None:
    record_id, look = generated(runtime), looked(runtime, png(1))
    context = chromium.new_context(color_scheme=scheme, viewport=viewport)  # type: ignore[arg-type]
    page = context.new_page()
    for path in ("/", "/docs", "/log", "/about", "/claims", f"/v/{look}", f"/r/{record_id}", f"/r/{'0' * 64}"):
        page.goto(site + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], path
        assert page.evaluate("document.querySelectorAll('h1').length") == 1
        assert page.evaluate("[...document.images].every(each => each.complete && each.naturalWidth && each.alt)")
        worst = page.evaluate(LOWEST_CONTRAST)
        assert worst["ratio"] >= 4.5, (path, worst)  # WCAG 2.2, 1.4.3, level AA
    context.close()


def test_a_matched_region_is_seen_on_the_record_and_sketched_on_a_look_that_keeps_no_picture(
    runtime: Runtime, site: str, page: Page
) -> None:
    record_id, look = generated(runtime), looked(runtime, png(1))
    page.goto(f"{site}/r/{record_id}")
    drawn = page.get_by_alt_text("outlines mark the region that matches in both", exact=False)
    box = drawn.bounding_box()
    assert box is not None
    assert box["width"] > 300
    page.goto(f"{site}/v/{look}")
    assert page.locator("img").count() == 0
    sketch = page.get_by_role("img", name="The matched region of this image: 25 % of its area").first
    sketch.wait_for()
    box = sketch.bounding_box()
    assert box is not None
    assert box["width"] > 80
    page.get_by_text("What this search misses, as measured").click()
    page.get_by_role("rowheader", name="pasted at a quarter of the area").wait_for()


@pytest.fixture
def scripted(chromium: Browser) -> Iterator[Page]:
    """A browser as most people have it."""
    page = chromium.new_page(viewport=DESK)  # type: ignore[arg-type]
    yield page
    page.close()


def issued_file(runtime: Runtime, folder: Path) -> Path:
    record_id = generated(runtime)
    with runtime.sessions() as session:
        key, _ = lookup.file_key(session, record_id)
    path = folder / "picture.png"
    path.write_bytes(runtime.storage.get(key))
    return path


DROP = """([bytes, how]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], "picture.png", {type: "image/png"}));
  const event = how === "drop"
    ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
    : new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true});
  document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_known_file_is_answered_by_its_hash_without_an_upload(
    runtime: Runtime, site: str, scripted: Page, tmp_path: Path, how: str
) -> None:
    data = issued_file(runtime, tmp_path).read_bytes()
    sent: list[str] = []
    scripted.on("request", lambda request: sent.append(request.method))
    scripted.goto(site)
    scripted.evaluate(DROP, [list(data), how])
    scripted.wait_for_url(f"{site}/r/{hashlib.sha256(data).hexdigest()}")
    scripted.get_by_text("About the very file whose hash you asked for.").wait_for()
    assert "POST" not in sent


def test_an_unknown_file_that_is_dropped_is_uploaded_and_its_answer_appears_by_itself(
    runtime: Runtime, site: str, scripted: Page
) -> None:
    scripted.goto(site)
    scripted.evaluate(DROP, [list(png(7)), "drop"])
    scripted.get_by_role("heading", name="Looking at your image…").wait_for()
    look_is_finished(runtime, scripted)
    scripted.get_by_role("heading", name="Six answers").wait_for()


def test_a_hash_can_be_typed_and_the_log_searched(runtime: Runtime, site: str, scripted: Page, tmp_path: Path) -> None:
    digest = hashlib.sha256(issued_file(runtime, tmp_path).read_bytes()).hexdigest()
    scripted.goto(site)
    scripted.get_by_label("Or the SHA-256").fill(f"  {digest.upper()} ")
    scripted.get_by_role("button", name="Look up").click()
    assert scripted.url == f"{site}/r/{digest}"
    scripted.goto(f"{site}/log")
    scripted.get_by_label("An entry's number").fill("test-generator")
    scripted.get_by_role("button", name="Search").click()
    scripted.get_by_text("1 for “test-generator”.").wait_for()
    assert scripted.url == f"{site}/log?q=test-generator"
    assert scripted.get_by_role("link", name="Generated here", exact=False).count() == 1


FOREIGN = """document.querySelectorAll("script:not([src^='/static/']), [onerror], [style]").length"""
LOWEST_CONTRAST = """() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => {
    const linear = c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = channels(colour).map(c => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if ((channels(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  let worst = {ratio: 21, text: ""};
  for (const element of document.body.querySelectorAll("*")) {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) worst = {ratio, text: element.textContent.trim().slice(0, 60)};
  }
  return worst;
}"""
